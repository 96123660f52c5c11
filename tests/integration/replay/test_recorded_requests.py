"""Requests of a real kube-apiserver, byte for byte, get a kubelet's answers."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest

from tests.integration.replay.conftest import LOG_LINES, Node
from tests.integration.replay.recordings import Recording, load
from tests.support.spdy import (
    DATA,
    GOAWAY,
    PING,
    RST_STREAM,
    SYN_REPLY,
    SYN_STREAM,
    SpdyFrame,
    read_spdy_frame,
)

pytestmark = pytest.mark.lab

LIMIT = 20.0
AT_ONCE = 4
PRINTED = {
    "kubectl exec single -- echo hi": b"hi\n",
    "kubectl exec -i single -- cat": b"hello stdin\n",
    "kubectl exec single -- printf '%s|%s' '' 'line1\\nline2'": b"|line1\nline2",
}
RECORDED_TIMES = {"2026-11-24T22:00:00Z": 1795557600, "2026-11-24T20:00:00Z": 1795550400}


@dataclass(slots=True)
class Answer:
    """What came back for one request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]

    async def body(self) -> bytes:
        """All of a plain answer."""
        if "content-length" in self.headers:
            return await self.reader.readexactly(int(self.headers["content-length"]))
        body = b""
        while data := await self.chunk():
            body += data
        return body

    async def chunk(self) -> bytes:
        """The next piece of a chunked answer."""
        data = await self.reader.readexactly(int(await self.reader.readline(), 16))
        assert await self.reader.readexactly(2) == b"\r\n"
        return data


@asynccontextmanager
async def asked(node: Node, recording: Recording) -> AsyncIterator[Answer]:
    """Send a recorded request as it stands, on a connection of its own."""
    async with asyncio.timeout(LIMIT):
        reader, writer = await node.cloud.connect()
        try:
            writer.write(recording.head + recording.body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            yield Answer(reader, writer, int(lines[0].split()[1]), headers)
        finally:
            writer.close()


Check = Callable[[Node, Recording], Awaitable[None]]


async def check_all(node: Node, kind: str, check: Check) -> None:
    """Check every recording of a kind; reports all that got another answer."""
    failures: list[str] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def check_one(recording: Recording) -> None:
        async with room:
            try:
                await check(node, recording)
            except (AssertionError, OSError, EOFError, TimeoutError) as error:
                failures.append(f"{recording.command}\n{recording.target}\n{error!r}")

    recordings = load(kind)
    assert recordings
    await asyncio.gather(*(check_one(recording) for recording in recordings))
    assert not failures, f"{len(failures)} of {len(recordings)}:\n" + "\n\n".join(failures)


async def test_logs(node: Node) -> None:
    await check_all(node, "logs", check_logs)


async def test_exec(node: Node) -> None:
    await check_all(node, "exec", check_exec)


async def test_attach(node: Node) -> None:
    await check_all(node, "attach", check_attach)


async def test_port_forward(node: Node) -> None:
    await check_all(node, "port-forward", check_port_forward)


async def test_node_proxy(node: Node) -> None:
    await check_all(node, "node-proxy", check_node_proxy)


# -- logs ------------------------------------------------------------------------------------------


async def check_logs(node: Node, recording: Recording) -> None:
    options = parse_qs(recording.target.partition("?")[2])
    query = {name: values[0] for name, values in options.items()}
    async with asked(node, recording) as answer:
        if "/pending/" in recording.path:
            why = b'container "app" in pod "pending" is waiting to start: ContainerCreating'
            assert (answer.status, await answer.body()) == (400, why)
            return
        assert answer.status == 200
        assert "content-type" not in answer.headers
        assert answer.headers["transfer-encoding"] == "chunked"
        lines = expected_lines(query)
        size = int(query.get("limitBytes", 1 << 20))
        body = await (until_told(answer, lines) if "follow" in query else answer.body())
        if query.get("timestamps"):
            body = b"".join(line.partition(b"Z ")[2] for line in body.splitlines(keepends=True))
        assert body == b"".join(lines)[:size]


def expected_lines(query: dict[str, str]) -> list[bytes]:
    """What the log holds of what was asked for."""
    if query.get("tailLines") == "0":
        return []
    if "sinceTime" in query and RECORDED_TIMES[query["sinceTime"]] > time.time():
        return []
    return LOG_LINES


async def until_told(answer: Answer, lines: list[bytes]) -> bytes:
    body = b""
    while body.count(b"\n") < len(lines):
        body += await answer.chunk()
    return body


# -- exec, attach and port-forward --------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """What the kubelet's side has sent on each stream."""

    accepted: set[int] = field(default_factory=set)
    received: dict[int, bytes] = field(default_factory=dict)
    pings: list[bytes] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)

    def take(self, frame: SpdyFrame) -> None:
        if frame.kind == SYN_REPLY:
            self.accepted.add(frame.stream)
        elif frame.kind == DATA:
            assert frame.stream in self.accepted, "data of a stream that was not accepted"
            self.received[frame.stream] = self.received.get(frame.stream, b"") + frame.payload
        elif frame.kind == PING:
            self.pings.append(frame.payload)
        if frame.is_last or frame.kind == RST_STREAM:
            self.ended.add(frame.stream)


async def replay(answer: Answer, recording: Recording, until: Callable[[Session], bool]) -> Session:
    """Send what was sent: the streams, their bytes once all are accepted, and then the end."""
    opened = [frame for frame in recording.frames if frame.kind == SYN_STREAM]
    farewell = [frame for frame in recording.frames if frame.kind in (RST_STREAM, GOAWAY)]
    session = Session()
    answer.writer.write(b"".join(frame.raw for frame in recording.frames if frame not in farewell))
    while not (len(session.accepted) == len(opened) and until(session)):
        session.take(await read_spdy_frame(answer.reader))
    answer.writer.write(b"".join(frame.raw for frame in farewell))
    return session


def streams(target: str) -> list[str]:
    """The session's streams in the order in which they are opened."""
    query = parse_qs(target.partition("?")[2])
    names = {"stdin": "input", "stdout": "output", "stderr": "error"}
    wanted = ["error", *(name for name, key in names.items() if query.get(key) == ["1"])]
    return [*wanted, "resize"] if "tty" in query else wanted


async def check_spdy_head(answer: Answer, version: str) -> None:
    assert answer.status == 101, (answer.status, await answer.body())
    assert answer.headers["upgrade"] == "spdy/3.1"
    assert answer.headers["connection"] == "upgrade"
    assert answer.headers["x-stream-protocol-version"] == version


async def check_websocket(answer: Answer, recording: Recording) -> None:
    """v4 and base64 are taken, others refused, as the container runtime does."""
    protocol = recording.header("Sec-Websocket-Protocol")
    if protocol in ("v4.channel.k8s.io", "base64.channel.k8s.io"):
        assert answer.status == 101, await answer.body()
        assert answer.headers["sec-websocket-protocol"] == protocol
        assert answer.headers["sec-websocket-accept"] == "s3pplmbitxaq9kygzzhzrbk+xoo="
    elif protocol.startswith("SPDY/3.1+"):
        # A runtime takes it for the old kind, which names its ports. kubectl then uses SPDY.
        assert (answer.status, await answer.body()) == (400, b'query parameter "port" is required')
    else:
        assert answer.status == 403


async def check_exec(node: Node, recording: Recording) -> None:
    async with asked(node, recording) as answer:
        if "/pending/" in recording.path:
            assert (answer.status, await answer.body()) == (500, b'container not found ("app")')
        elif recording.upgrade == "websocket":
            await check_websocket(answer, recording)
        else:
            await check_spdy_head(answer, "v4.channel.k8s.io")
            await check_exec_session(answer, recording)


async def check_exec_session(answer: Answer, recording: Recording) -> None:
    if recording.code is None:
        await replay(answer, recording, lambda _: True)
        return
    order = streams(recording.target)
    status, stdout = 1, 2 * order.index("stdout") + 1
    session = await replay(answer, recording, lambda session: status in session.received)
    told = json.loads(session.received[status])
    if "nosuchcmd" in recording.target:
        assert (told["status"], told["reason"]) == ("Failure", "InternalError")
    elif recording.code == 7:
        assert told["reason"] == "NonZeroExitCode"
        assert told["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    elif recording.command in PRINTED:
        assert told["status"] == "Success"
        assert session.received[stdout] == PRINTED[recording.command]
    else:
        assert told["reason"] == "NonZeroExitCode" if told["status"] == "Failure" else True


async def check_attach(node: Node, recording: Recording) -> None:
    async with asked(node, recording) as answer:
        if "/pending/" in recording.path:
            why = b"container app not found in pod pending_default"
            assert (answer.status, await answer.body()) == (500, why)
        elif recording.upgrade == "websocket":
            await check_websocket(answer, recording)
        else:
            await check_spdy_head(answer, "v4.channel.k8s.io")
            if "resize" not in streams(recording.target) or "/dbg/" in recording.path:
                await replay(answer, recording, lambda _: True)


async def check_port_forward(node: Node, recording: Recording) -> None:
    async with asked(node, recording) as answer:
        if recording.upgrade == "websocket":
            await check_websocket(answer, recording)
            return
        await check_spdy_head(answer, "portforward.k8s.io")
        if node.lab.has_network:
            session = await replay(
                answer,
                recording,
                lambda session: any(b"hello from the lab\n" in page for page in pages(session)),
            )
            assert all(page.startswith(b"HTTP/1.") for page in pages(session))


def pages(session: Session) -> list[bytes]:
    """What came of the pages that were asked for."""
    return [data for data in session.received.values() if data]


# -- node proxy ------------------------------------------------------------------------------------

JSON, TEXT = "application/json", "text/plain"
# The API server drops the text of a 404 that is no Status.
PAGES = {
    "/healthz": (200, TEXT, b"ok"),
    "/pods": (200, JSON, b'"kind":"PodList"'),
    "/pods/": (200, JSON, b'"kind":"PodList"'),
    "/runningpods/": (200, JSON, b'"kind":"PodList"'),
    "/metrics": (200, TEXT, b"# HELP "),
    "/metrics/cadvisor": (200, TEXT, b"# HELP container_"),
    "/metrics/resource": (200, TEXT, b"node_cpu_usage_seconds_total"),
    "/stats/summary": (200, JSON, b'"nodeName": "edge-1"'),
    "/logs/": (200, "text/html", b'<a href="syslog">syslog</a>'),
    "/logs": (301, "text/html", b'<a href="/logs/">Moved Permanently</a>'),
    "/configz": (200, JSON, b'"kubeletconfig"'),
    "/": (404, JSON, b"404 page not found"),
    "/nosuch/path%20x": (404, JSON, b"404 page not found"),
    "/anything": (404, JSON, b"404 page not found"),
    "/run/default/single/app": (500, TEXT, b"failed to exec in container"),
    "/exec/default/single/app": (500, TEXT, b"Upgrade request required\n"),
}


# What has a body; nothing of it is run.
REFUSED = (400, JSON, b"carries no bodies of requests")
REFUSED_OVER_V1 = {"/anything": REFUSED, "/run/default/single/app": REFUSED}


async def check_node_proxy(node: Node, recording: Recording) -> None:
    async with asked(node, recording) as answer:
        if recording.path.startswith("/containerLogs/"):
            assert answer.status == 200
            body = await until_told(answer, LOG_LINES)
            assert body.count(b"app log line ") == len(LOG_LINES)
            return
        body = await answer.body()
        if recording.upgrade:
            why = b"you must specify at least 1 of stdin, stdout, stderr"
            assert (answer.status, body) == (400, why)
            return
        pages = PAGES if node.version == "v2" else PAGES | REFUSED_OVER_V1
        status, content_type, part = pages[recording.path]
        assert answer.status == status, body
        assert answer.headers["content-type"].startswith(content_type), answer.headers
        if answer.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert part in body, body[:300]
