"""Fixtures of the log reader's tests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from edgestream.logs.options import LogOptions
from edgestream.logs.reader import LogReader
from edgestream.logs.watch import LogWatcher
from tests.unit.edgestream.logs.support import Container, Follow, Followed


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a container's log is; not there yet."""
    directory = tmp_path / "default_web_uid" / "main"
    directory.mkdir(parents=True)
    return directory / "0.log"


@pytest.fixture
def container() -> Container:
    """A running container."""
    return Container()


@pytest.fixture
async def watcher() -> AsyncIterator[LogWatcher]:
    """The process's watcher."""
    watcher = LogWatcher()
    yield watcher
    await watcher.close()


@pytest.fixture
async def follow(log: Path, container: Container, watcher: LogWatcher) -> AsyncIterator[Follow]:
    """Begins to follow the log; what is followed is closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> Followed:
            reader = await LogReader.open(
                str(log), LogOptions(follow=True, **options), state=container, watcher=watcher
            )
            return Followed(await stack.enter_async_context(aclosing(reader.chunks())))

        yield begin
