from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudstream.replicas.exchange import ReplicaDialler
from streamkit.pki.issue import issue_all
from tests.support.cloud import tls_files
from tests.unit.cloudstream.replicas.peers import dialler_of


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("replicas")
    issue_all(directory, nodes=())
    return directory


@pytest.fixture
async def dialler(pki: Path) -> AsyncIterator[ReplicaDialler]:
    made = dialler_of(tls_files(pki, "stream"))
    yield made
    await made.close()
