"""A request that another replica answers, with a replica that follows a script."""

import asyncio
import socket
from pathlib import Path

import pytest

import cloudstream.replicas.exchange as module
from cloudstream.replicas.exchange import ReplicaDialler, ReplicaSession
from cloudstream.replicas.messages import NodeNotHere
from streamkit.errors import ChannelReset, IncompleteAnswer, ReplicaUnreachable, StreamError
from streamkit.pki.issue import issue_all
from streamkit.session.channel import HIGH_WATER, Channel
from streamkit.wire.exchange import RequestHead
from tests.support.cloud import tls_files
from tests.support.handler import RecordingHandler
from tests.support.http_server import SWITCHED, Peer, free_port
from tests.support.wait import until
from tests.unit.cloudstream.replicas.peers import (
    HOST,
    NOT_HERE,
    dialler_of,
    says,
    scripted_replica,
)

LOG = RequestHead("GET", "/containerLogs/ns/p/c?follow=true", (("Accept", "*/*"),))
EXEC = RequestHead(
    "POST", "/exec/ns/p/c?command=x", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


class Caller:
    """One exchange, and what is heard of it."""

    def __init__(
        self,
        dialler: ReplicaDialler,
        address: tuple[str, int],
        request: RequestHead = LOG,
        *,
        consumes: bool = True,
    ) -> None:
        self.told: list[StreamError | None] = []
        self.handler = RecordingHandler()
        session = ReplicaSession(dialler, address, "edge-1", self.told.append)
        self.channel: Channel = session.open(request, self.handler)
        if consumes:
            self.handler.channel = self.channel

    async def failure(self) -> StreamError:
        """Why the exchange was broken off, which is told once."""
        await until(lambda: bool(self.handler.errors))
        (error,) = self.handler.errors
        return error


async def test_the_request_arrives_with_its_nodes_name_and_the_answer_comes_back(
    pki: Path, dialler: ReplicaDialler
) -> None:
    seen: list[str] = []

    async def script(peer: Peer) -> None:
        seen.extend(await peer.receive_head())
        await peer.send(OK % 9 + b"some ")
        await peer.send(b"text")
        assert await peer.receive() == b""

    async with scripted_replica(pki, script) as replica:
        lying = RequestHead(LOG.method, LOG.target, (*LOG.headers, ("cloudstream-node", "x")))
        caller = Caller(dialler, replica.address, lying)
        await until(lambda: caller.handler.ends == 1)
    assert seen == [f"GET {LOG.target} HTTP/1.1", "Accept: */*", "Cloudstream-Node: edge-1"]
    assert [head.status for head in caller.handler.heads] == [200]
    assert caller.handler.body == b"some text"
    assert caller.handler.errors == []
    assert caller.told == [None]


async def test_an_upgraded_stream_passes_both_ways_to_either_end(
    pki: Path, dialler: ReplicaDialler
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED + b"early")
        assert await peer.receive_exactly(5) == b"input"
        await peer.send(b"late")

    async with scripted_replica(pki, script) as replica:
        caller = Caller(dialler, replica.address, EXEC)
        await until(lambda: caller.handler.body == b"early")
        assert [head.status for head in caller.handler.heads] == [101]
        caller.channel.write(b"input")
        await until(lambda: caller.handler.ends == 1)
        assert caller.handler.body == b"earlylate"
        caller.channel.write(b"nobody reads this")


async def test_a_caller_that_takes_nothing_stops_the_replica(
    pki: Path, dialler: ReplicaDialler
) -> None:
    sent = 0
    size = 32 << 20

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.receive_head()
        await peer.send(OK % size)
        for _ in range(size >> 16):
            await peer.send(bytes(1 << 16))
            sent += 1 << 16
        await peer.receive()

    async with scripted_replica(pki, script) as replica:
        caller = Caller(dialler, replica.address, consumes=False)
        await until(lambda: len(caller.handler.body) > HIGH_WATER)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert len(caller.handler.body) < 2 << 20
        assert sent < size
        caller.handler.channel = caller.channel
        caller.channel.consumed(len(caller.handler.body))
        await until(lambda: caller.handler.ends == 1)
        assert len(caller.handler.body) == size


async def test_a_replica_that_takes_nothing_stops_the_caller(
    pki: Path, dialler: ReplicaDialler
) -> None:
    may_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(SWITCHED)
        await may_read.wait()
        await peer.receive_exactly(32 << 20)

    async with scripted_replica(pki, script) as replica:
        caller = Caller(dialler, replica.address, EXEC)
        await until(lambda: bool(caller.handler.heads))
        written = 0
        while not caller.handler.is_paused:
            caller.channel.write(bytes(1 << 20))
            written += 1 << 20
        assert caller.channel.is_paused
        may_read.set()
        await until(lambda: not caller.handler.is_paused)
        caller.channel.write(bytes((32 << 20) - written))
        await until(lambda: caller.handler.ends == 1)


@pytest.mark.parametrize(("value", "is_leaving"), [(b"true", False), (b"leaving", True)])
async def test_a_replica_without_the_node_says_so(
    pki: Path, dialler: ReplicaDialler, value: bytes, is_leaving: bool
) -> None:
    async with scripted_replica(pki, says(NOT_HERE % value)) as replica:
        caller = Caller(dialler, replica.address)
        error = await caller.failure()
    assert isinstance(error, NodeNotHere)
    assert error.is_leaving is is_leaving
    assert (caller.handler.heads, caller.told) == ([], [error])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "the replica at 127.0.0.1 closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "the replica at 127.0.0.1 closed the connection without an"),
        (b"SSH-2.0\r\n\r\n", "the replica at 127.0.0.1 sent an answer that is no HTTP"),
        (OK % 9 + b"half", "the replica at 127.0.0.1 broke the answer off"),
    ],
    ids=["nothing", "half a head", "no HTTP", "half a body"],
)
async def test_an_answer_that_is_not_whole_is_a_failure(
    pki: Path, dialler: ReplicaDialler, answer: bytes, sentence: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(answer)

    async with scripted_replica(pki, script) as replica:
        error = await Caller(dialler, replica.address).failure()
    assert isinstance(error, IncompleteAnswer)
    assert sentence in str(error)


async def test_a_connection_that_breaks_is_a_failure(pki: Path, dialler: ReplicaDialler) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_head()
        await peer.send(OK % 9)
        peer.reset()

    async with scripted_replica(pki, script) as replica:
        error = await Caller(dialler, replica.address).failure()
    assert isinstance(error, IncompleteAnswer)


async def test_nobody_there(dialler: ReplicaDialler) -> None:
    caller = Caller(dialler, (HOST, free_port()))
    error = await caller.failure()
    assert isinstance(error, ReplicaUnreachable)
    assert str(error) == "the replica at 127.0.0.1 can't be reached: Connection refused"
    assert caller.told == [error]


async def test_a_replica_that_says_nothing_costs_no_more_than_the_deadline(
    dialler: ReplicaDialler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECT", 0.05)
    with socket.create_server((HOST, 0)) as silent:
        error = await Caller(dialler, silent.getsockname()).failure()
    assert isinstance(error, ReplicaUnreachable)
    assert "it did not answer in time" in str(error)


async def test_who_is_no_replica_is_told_nothing(
    pki: Path, tmp_path: Path, dialler: ReplicaDialler
) -> None:
    heads: list[list[str]] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.receive_head())

    async with scripted_replica(pki, script, stem="tunnel") as replica:
        error = await Caller(dialler, replica.address).failure()
    assert isinstance(error, ReplicaUnreachable)
    assert "shows a certificate that is not a replica's" in str(error)
    issue_all(tmp_path, nodes=())
    async with scripted_replica(tmp_path, script) as replica:
        error = await Caller(dialler, replica.address).failure()
    assert isinstance(error, ReplicaUnreachable)
    assert "TLS failed: certificate verify failed" in str(error)
    assert heads == []


async def test_replicas_with_one_certificate_know_each_other_whatever_the_ca(
    pki: Path, tmp_path: Path
) -> None:
    issue_all(tmp_path, nodes=())
    own = tls_files(pki, "stream")
    dialler = dialler_of(type(own)(ca=tmp_path / "ca.crt", cert=own.cert, key=own.key))
    async with scripted_replica(pki, says(OK % 0)) as replica:
        caller = Caller(dialler, replica.address)
        await until(lambda: caller.handler.ends == 1)
    await dialler.close()


async def test_a_caller_that_leaves_while_it_is_connected_for_hears_no_more(
    pki: Path, dialler: ReplicaDialler
) -> None:
    async with scripted_replica(pki, says(OK % 0)) as replica:
        caller = Caller(dialler, replica.address)
        caller.channel.reset(ChannelReset("the caller went away"))
        caller.channel.write(b"late")
        caller.channel.consumed(1)
        later = Caller(dialler, replica.address)
        await until(lambda: later.handler.ends == 1)
    assert (caller.handler.heads, caller.handler.ends, caller.handler.errors) == ([], 0, [])
