from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import edgestream.tunnel
from tests.integration.tunnel.life import running
from tests.support.cloud import Cloud


@pytest.fixture(params=["picows", "websockets"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both libraries that an edge may dial with: the second is for machines without the first."""
    chosen: str = request.param
    monkeypatch.setattr(edgestream.tunnel, "has_picows", lambda: chosen == "picows")
    return chosen


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    """A cloud whose deadlines are short."""
    async with running(tmp_path) as made:
        yield made
