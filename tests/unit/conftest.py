"""Fixtures that unit tests of several rooms use."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Undoes what ``streamkit.service.logs.configure`` does to the process."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    names = ("", "cloudstream", "edgestream", "streamkit")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
