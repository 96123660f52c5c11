"""Changes in log directories.

A process may have few inotify instances (``fs.inotify.max_user_instances``, 128 by default) and
limited watches, so all followers share one instance and, in the same directory, one watch. Without
inotify a follower is woken by its own time limit, once a second.

A watch fires once and is then gone, until it is set again: a busy writer costs one event for each
time that its followers look, not one for each write.
"""

import asyncio
import errno
import logging
import os

from asyncinotify import Event, Inotify, Mask, Watch

_MASK = (
    Mask.MODIFY
    | Mask.ATTRIB
    | Mask.CLOSE_WRITE
    | Mask.MOVE
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLYDIR
    | Mask.ONESHOT
)

_SYSCTL = {
    errno.EMFILE: "fs.inotify.max_user_instances",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}

logger = logging.getLogger(__name__)


class DirectoryWatch:
    """One follower's view of a directory."""

    def __init__(self, watcher: "LogWatcher", directory: str) -> None:
        self._watcher = watcher
        self._directory = directory
        self._changed = asyncio.Event()

    def arm(self) -> None:
        """From now on changes are noticed, those before are forgotten.

        To miss nothing, arm the watch and then look at the files, each time before ``wait``.
        """
        self._changed.clear()
        self._watcher.arm(self._directory)

    async def wait(self, timeout: float) -> bool:
        """Wait for a change since ``arm``, ``timeout`` seconds at most; whether there was one.

        May return early without a change that matters: it is a hint to look again.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def notify(self) -> None:
        """Wake the one who waits."""
        self._changed.set()

    def close(self) -> None:
        """Let go of the directory, and wake the one who waits. Idempotent."""
        self._watcher.forget(self._directory, self)
        self.notify()


class LogWatcher:
    """The process's one inotify instance; it is opened when the first log is followed."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._followers: dict[str, set[DirectoryWatch]] = {}
        self._armed: dict[str, Watch] = {}
        self._warned = False
        self._closed = False

    def watch(self, directory: str) -> DirectoryWatch:
        """Begin to watch a directory, which need not exist."""
        follower = DirectoryWatch(self, directory)
        self._followers.setdefault(directory, set()).add(follower)
        return follower

    def arm(self, directory: str) -> None:
        """Set the directory's watch if it is not set. Where that fails, no event will come."""
        if directory in self._armed or self._closed:
            return
        try:
            self._armed[directory] = self._instance().add_watch(directory, _MASK)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._warn(error)

    def forget(self, directory: str, follower: DirectoryWatch) -> None:
        """Take a follower away, and the watch with the last of them. Idempotent."""
        followers = self._followers.get(directory, set())
        followers.discard(follower)
        if followers:
            return
        self._followers.pop(directory, None)
        watch = self._armed.pop(directory, None)
        if watch is not None and self._inotify is not None:
            try:
                self._inotify.rm_watch(watch)
            except OSError:
                logger.debug("the watch on %s was gone already", directory)

    async def close(self) -> None:
        """Close the instance and wake all followers, who then poll. Idempotent."""
        self._closed = True
        self._armed.clear()
        if self._inotify is not None and self._loop is not None:
            self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None
        self._wake_all()

    def _instance(self) -> Inotify:
        if self._inotify is None:
            self._inotify = Inotify(sync_timeout=0)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._inotify.fd, self._on_events, self._inotify)
        return self._inotify

    def _on_events(self, inotify: Inotify) -> None:
        for event in inotify:
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if Mask.Q_OVERFLOW in event.mask:
            self._wake_all()
            return
        watch = event.watch
        if watch is None:  # the end of a watch that has fired or was removed
            return
        directory = os.fspath(watch.path)
        if self._armed.get(directory) is watch:
            del self._armed[directory]
            for follower in self._followers.get(directory, ()):
                follower.notify()

    def _wake_all(self) -> None:
        for followers in self._followers.values():
            for follower in followers:
                follower.notify()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            setting = _SYSCTL.get(error.errno or 0)
            logger.warning(
                "inotify is not available (%s); logs are followed by looking once a second%s",
                error.strerror,
                f", raise {setting} to change that" if setting else "",
            )
