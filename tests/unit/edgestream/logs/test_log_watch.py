"""Changes in directories, by inotify and without it."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from asyncinotify import Event, Mask

from edgestream.logs import watch
from edgestream.logs.watch import LogWatcher
from tests.unit.edgestream.logs.support import (
    DEADLINE,
    Container,
    Follow,
    append,
    lines,
    open_files,
    records,
    rotate,
    write,
)


async def test_changes_wake(tmp_path: Path, watcher: LogWatcher) -> None:
    path = tmp_path / "0.log"
    follower = watcher.watch(str(tmp_path))
    changes: list[Callable[[], object]] = [
        path.touch,
        lambda: append(path, b"x"),
        lambda: path.chmod(0o600),
        path.unlink,
    ]
    for change in changes:
        follower.arm()
        assert not await follower.wait(0)
        change()
        assert await follower.wait(DEADLINE)
    follower.arm()
    assert not await follower.wait(0)


async def test_change_between_arming_and_waiting(tmp_path: Path, watcher: LogWatcher) -> None:
    follower = watcher.watch(str(tmp_path))
    follower.arm()
    (tmp_path / "0.log").touch()
    assert await follower.wait(DEADLINE)


async def test_one_event_for_many_writes(tmp_path: Path, watcher: LogWatcher) -> None:
    path = tmp_path / "0.log"
    path.touch()
    follower = watcher.watch(str(tmp_path))
    follower.arm()
    with mock.patch.object(watcher, "_on_event", wraps=watcher._on_event) as seen:
        for _ in range(100):
            append(path, b"x")
        assert await follower.wait(DEADLINE)
        fired = [call for call in seen.call_args_list if call.args[0].watch is not None]
    assert len(fired) == 1


async def test_followers_share_one_watch(tmp_path: Path, watcher: LogWatcher) -> None:
    before = open_files()
    followers = [watcher.watch(str(tmp_path)) for _ in range(50)]
    for follower in followers:
        follower.arm()
    assert len(open_files() - before) == 2  # inotify and the library's selector
    (tmp_path / "0.log").touch()
    async with asyncio.timeout(DEADLINE):
        assert all(await asyncio.gather(*(each.wait(DEADLINE) for each in followers)))
    for follower in followers:
        follower.close()
        follower.close()


async def test_others_go_on_when_one_leaves(tmp_path: Path, watcher: LogWatcher) -> None:
    leaves, stays = watcher.watch(str(tmp_path)), watcher.watch(str(tmp_path))
    leaves.arm()
    stays.arm()
    leaves.close()
    (tmp_path / "0.log").touch()
    assert await stays.wait(DEADLINE)
    stays.close()
    comes = watcher.watch(str(tmp_path))
    comes.arm()
    (tmp_path / "0.log").unlink()
    assert await comes.wait(DEADLINE)


async def test_closing_wakes_all(tmp_path: Path, watcher: LogWatcher) -> None:
    follower, alone = watcher.watch(str(tmp_path)), watcher.watch("/no/such/directory")
    follower.arm()
    alone.arm()
    assert not await alone.wait(0)
    await watcher.close()
    await watcher.close()
    assert await follower.wait(DEADLINE)
    assert await alone.wait(DEADLINE)
    follower.arm()
    assert not await follower.wait(0)
    follower.close()


async def test_lost_events_wake_all(tmp_path: Path, watcher: LogWatcher) -> None:
    follower = watcher.watch(str(tmp_path))
    follower.arm()
    watcher._on_event(mock.Mock(spec=Event, mask=Mask.Q_OVERFLOW, watch=None))
    assert await follower.wait(0)


@pytest.mark.parametrize(
    ("error", "setting"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
    ],
)
async def test_without_inotify(
    error: int,
    setting: str,
    log: Path,
    follow: Follow,
    container: Container,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(log, records(1, 2))
    with (
        mock.patch.object(watch, "Inotify", side_effect=OSError(error, os.strerror(error))),
        mock.patch("edgestream.logs.follow.LOOK_INTERVAL", 0.02),
        caplog.at_level(logging.WARNING),
    ):
        several = [await follow(), await follow()]
        for followed in several:
            await followed.until(lines(1, 2))
        append(log, records(3, 3))
        rotate(log, "20240501-100000")
        write(log, records(4, 4))
        for followed in several:
            await followed.until(lines(1, 4))
        container.running = False
        for followed in several:
            await followed.until_end(lines(1, 4))
    warnings = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert setting in warnings[0].getMessage()
