"""Replicas that do not answer cost one request its time, and no more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import cloudstream.replicas.exchange as exchange
import cloudstream.replicas.reachability as module
from cloudstream.replicas.exchange import Address, ReplicaDialler
from cloudstream.replicas.messages import NodeNotHere
from cloudstream.replicas.reachability import Reachability
from streamkit.errors import IncompleteAnswer, ReplicaUnreachable
from tests.support.http_server import Peer, free_port
from tests.support.wait import until
from tests.unit.cloudstream.replicas.peers import HOST, NOT_HERE, says, scripted_replica

SERVING, LEAVING = says(NOT_HERE % b"true"), says(NOT_HERE % b"leaving")
UNREACHABLE = ReplicaUnreachable("the replica at 127.0.0.1 can't be reached: no reason")


class Known:
    """The replicas that there are, and what is known of them."""

    def __init__(self, dialler: ReplicaDialler) -> None:
        self.listed: list[Address] = []
        self.reachability = Reachability(dialler, lambda: self.listed)

    def note_unreachable(self, address: Address) -> None:
        self.listed.append(address)
        self.reachability.note(address, UNREACHABLE)
        assert self.reachability.is_away(address)


@pytest.fixture
async def known(dialler: ReplicaDialler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Known]:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    made = Known(dialler)
    yield made
    await made.reachability.close()


async def test_who_is_away_is_asked_until_he_answers(
    pki: Path, known: Known, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    address = (HOST, free_port())
    known.note_unreachable(address)
    known.reachability.note(address, UNREACHABLE)
    assert len(known.reachability._tasks) == 1
    async with scripted_replica(pki, SERVING, port=address[1]):
        await until(lambda: not known.reachability.is_away(address))
    assert caplog.text.count("no request waits for it until it answers") == 1
    assert "the replica at 127.0.0.1 answers again" in caplog.text


async def test_one_that_is_leaving_still_answers_requests(pki: Path, known: Known) -> None:
    async with scripted_replica(pki, LEAVING) as replica:
        known.note_unreachable(replica.address)
        await until(lambda: not known.reachability.is_away(replica.address))


async def test_who_is_no_replica_any_more_is_forgotten(known: Known) -> None:
    address = (HOST, free_port())
    known.note_unreachable(address)
    known.listed.clear()
    await until(lambda: not known.reachability.is_away(address))
    await until(lambda: not known.reachability._tasks)


async def test_only_who_can_not_be_connected_to_is_away(known: Known) -> None:
    address = (HOST, 1)
    for error in (None, NodeNotHere("not here"), IncompleteAnswer("it broke off")):
        known.reachability.note(address, error)
        assert not known.reachability.is_away(address)


async def test_there_is_somebody_to_go_to_if_one_serves(pki: Path, known: Known) -> None:
    assert not await known.reachability.is_any_serving()
    known.listed.append((HOST, free_port()))
    assert not await known.reachability.is_any_serving()
    async with scripted_replica(pki, LEAVING) as leaving:
        known.listed.append(leaving.address)
        assert not await known.reachability.is_any_serving()
        async with scripted_replica(pki, SERVING) as serving:
            known.listed.append(serving.address)
            assert await known.reachability.is_any_serving()


async def test_one_that_answers_something_else_serves_nobody(pki: Path, known: Known) -> None:
    async with scripted_replica(pki, says(b"HTTP/1.1 403 Forbidden\r\n\r\n")) as replica:
        known.listed.append(replica.address)
        assert not await known.reachability.is_any_serving()


async def test_silence_costs_no_more_than_the_deadlines(
    pki: Path, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.receive_head()
        await asyncio.Event().wait()

    monkeypatch.setattr(exchange, "_CONNECT", 0.5)
    monkeypatch.setattr(module, "_ANSWER", 0.5)
    with socket.create_server((HOST, 0)) as deaf:
        async with scripted_replica(pki, silent) as mute, asyncio.timeout(5):
            known.listed += [deaf.getsockname(), mute.address]
            assert not await known.reachability.is_any_serving()


async def test_closing_ends_the_asking(known: Known) -> None:
    known.note_unreachable((HOST, free_port()))
    await known.reachability.close()
    await known.reachability.close()
    assert not known.reachability._tasks
