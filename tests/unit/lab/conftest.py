"""Fixtures of the lab's own tests."""

import pytest

from tests.unit.lab.apiserver_kit import Keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """One CA with its certificates for all tests of the API-server stand-in."""
    return Keys(tmp_path_factory.mktemp("keys"))
