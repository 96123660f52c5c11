"""``/logs/``: the files below one directory of the node, such as its system logs.

They are served as Go's file server does it: a directory as a page of links; a file whole, in part,
or not at all where the caller has it already.
"""

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

from edgestream.answers import UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.node_files import NodeDirectory, NodeFile, open_below
from edgestream.kubelet.reply import reply
from edgestream.kubelet.router import Parameters, moved
from edgestream.threads import Threads
from streamkit.errors import IncompleteAnswer
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead, header_values

_PIECE = 64 * 1024
_SNIFFED = 512


class NodeLogs:
    """The route for ``directory``; without one it says that it is off."""

    def __init__(self, directory: Path | None, threads: Threads) -> None:
        self._directory = directory
        self._threads = threads

    async def serve(self, exchange: Exchange, parameters: Parameters) -> None:
        """Send a file, or the list of a directory. Raises a KubeletAnswer if there is neither.

        What is added to a file after its request is not sent; one that is cut short meanwhile
        raises IncompleteAnswer, a disk that does not answer BackendError.
        """
        if self._directory is None:
            raise KubeletAnswer(405, "logs endpoint is disabled.\n", headers=UNSNIFFED_TEXT)
        path = parameters.get("path", "")
        found = await self._threads.run(open_below, self._directory, path)
        try:
            await self._answer(exchange, path, found)
        finally:
            found.close()

    async def _answer(self, exchange: Exchange, path: str, found: NodeFile | NodeDirectory) -> None:
        request, is_directory = exchange.request, isinstance(found, NodeDirectory)
        if request.path.endswith("/") != is_directory:
            place = f"/logs/{path}".rstrip("/")
            raise moved(request, f"{place}/" if is_directory else place)
        modified = ("Last-Modified", format_datetime(found.modified, usegmt=True))
        since = _date(request, "if-modified-since")
        if since and found.modified <= since:
            await exchange.send_head(ResponseHead(304, (modified,)))
            await exchange.end()
        elif isinstance(found, NodeDirectory):
            page = await self._threads.run(found.page)
            await reply(exchange, page, (("Content-Type", "text/html; charset=utf-8"), modified))
        else:
            await self._send(exchange, found, (modified, ("Accept-Ranges", "bytes")))

    async def _send(self, exchange: Exchange, file: NodeFile, headers: Headers) -> None:
        wanted = _wanted(exchange.request, file)
        part = range(file.size) if wanted is None else wanted
        kind = _content_type(await self._threads.run(file.read, 0, _SNIFFED))
        headers = (*headers, ("Content-Type", kind), ("Content-Length", str(len(part))))
        if wanted is not None:
            place = f"bytes {part.start}-{part.stop - 1}/{file.size}"
            headers = (*headers, ("Content-Range", place))
        await exchange.send_head(ResponseHead(200 if wanted is None else 206, headers))
        for start in range(part.start, part.stop, _PIECE):
            length = min(_PIECE, part.stop - start)
            data = await self._threads.run(file.read, start, length)
            if len(data) < length:
                raise IncompleteAnswer("the file was cut short while it was sent")
            await exchange.write(data)
        await exchange.end()


def _wanted(request: RequestHead, file: NodeFile) -> range | None:
    """The bytes that the request is for; None for all of them.

    Several ranges at once are taken for all of it, as they may be. Raises a KubeletAnswer for a
    range that the file does not have.
    """
    value = ",".join(header_values(request.headers, "range"))
    unchanged_since = _date(request, "if-range")
    is_outdated = header_values(request.headers, "if-range") and unchanged_since != file.modified
    if not value or "," in value or is_outdated or not file.size:
        return None
    unit, _, numbers = value.partition("=")
    first, dash, last = (each.strip() for each in numbers.partition("-"))
    texts = [each for each in (first, last) if each]
    if unit.strip() != "bytes" or not dash or not texts or not all(map(_is_number, texts)):
        raise _no_such_range("invalid range")
    if not first:
        start, stop = file.size - min(int(last), file.size), file.size
    else:
        start, stop = int(first), min(int(last) + 1, file.size) if last else file.size
        if last and int(last) < start:
            raise _no_such_range("invalid range")
    if start >= file.size:
        size = ("Content-Range", f"bytes */{file.size}")
        raise _no_such_range("invalid range: failed to overlap", size)
    return range(start, stop)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def _no_such_range(words: str, *headers: tuple[str, str]) -> KubeletAnswer:
    return KubeletAnswer(416, f"{words}\n", headers=(*UNSNIFFED_TEXT, *headers))


def _date(request: RequestHead, name: str) -> datetime | None:
    with suppress(ValueError, IndexError):
        moment = parsedate_to_datetime(header_values(request.headers, name)[0])
        return moment.replace(tzinfo=moment.tzinfo or UTC)
    return None


def _content_type(begin: bytes) -> str:
    """Guessed from a file's begin; never as something that a browser would run."""
    if begin.startswith(b"\x1f\x8b\x08"):
        return "application/x-gzip"
    is_binary = any(byte < 0x20 and byte not in b"\t\n\f\r\x1b" for byte in begin)
    return "application/octet-stream" if is_binary else "text/plain; charset=utf-8"
