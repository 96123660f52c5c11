"""How long a replica goes on serving while its edges go to others."""

import asyncio
import time
from collections.abc import Collection, Iterator
from typing import cast

import pytest

import cloudstream.moving as module
from cloudstream.moving import move_edges
from cloudstream.replicas.replicas import Replicas
from cloudstream.stream_server import StreamServer
from cloudstream.tunnel_server import TunnelServer
from tests.support.wait import until


class World:
    """A replica with one edge, which moves when the test says so; and one other replica."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.has_edges_to_move = True
        self.is_published_here = True
        self.is_another_serving = True
        self.is_serving = False
        self.surveys = 0

    def drain(self) -> list[str]:
        self.told.append("edges")
        return ["edge-1"]

    def leave_soon(self) -> None:
        self.told.append("leave soon")

    def leave(self) -> None:
        self.told.append("leave")

    async def is_any_serving(self) -> bool:
        self.surveys += 1
        return self.is_another_serving

    def published(self, names: Collection[str]) -> bool:
        assert names == ["edge-1"]
        return self.is_published_here

    def move(self, *, within: float = 10) -> "asyncio.Task[None]":
        moving = move_edges(
            cast(TunnelServer, self),
            cast(StreamServer, self),
            cast(Replicas, self),
            self.published,
            until=time.monotonic() + within,
        )
        return asyncio.create_task(moving)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, seconds in (("_LOOK", 0.001), ("_SURVEY", 0.01), ("_LINGER", 0.05)):
        monkeypatch.setattr(module, name, seconds)
    made = World()
    yield made
    assert made.told == ["edges", "leave soon", "leave"]


async def test_it_goes_on_until_all_edges_and_their_nodes_are_elsewhere(world: World) -> None:
    moving = world.move()
    await until(lambda: world.surveys > 2)
    world.has_edges_to_move = False
    seen = world.surveys
    await until(lambda: world.surveys > seen + 2)
    assert world.told == ["edges", "leave soon"]
    world.is_published_here = False
    began = time.monotonic()
    await moving
    assert time.monotonic() - began >= 0.05


async def test_an_edge_that_comes_back_is_waited_for_again(world: World) -> None:
    world.has_edges_to_move = world.is_published_here = False
    moving = world.move()
    await until(lambda: world.surveys > 0)
    world.has_edges_to_move = True
    await asyncio.sleep(0.1)
    assert not moving.done()
    world.has_edges_to_move = False
    await moving


async def test_what_runs_here_may_come_to_its_end(world: World) -> None:
    world.has_edges_to_move = world.is_published_here = False
    world.is_serving = True
    moving = world.move()
    await asyncio.sleep(0.2)
    assert not moving.done()
    world.is_serving = False
    await moving


async def test_where_nobody_else_serves_there_is_nothing_to_wait_for(world: World) -> None:
    world.is_another_serving = False
    await world.move()
    assert world.surveys == 1


async def test_the_last_other_one_may_go_meanwhile(world: World) -> None:
    moving = world.move()
    await until(lambda: world.surveys > 1)
    world.is_another_serving = False
    await moving


async def test_edges_that_stay_cost_no_more_than_the_deadline(world: World) -> None:
    await world.move(within=0.1)
    assert world.has_edges_to_move
