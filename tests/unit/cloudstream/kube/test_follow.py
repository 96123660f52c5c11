import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

import cloudstream.kube.follow as follow_module
from cloudstream.kube.api import JSON, ApiRefused, JsonObject
from cloudstream.kube.follow import Pauses, follow
from streamkit.errors import LookupFailed
from tests.support.kube import Answer, FedWatch, ScriptedKube
from tests.support.kube_server import kube_server
from tests.support.wait import until

PATH = "/api/v1/nodes"


class View:
    """An observer that keeps what it is told, and the objects by name."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.names: set[str] = set()

    def listed(self, objects: list[JsonObject]) -> None:
        self.names = {item["metadata"]["name"] for item in objects}
        self.told.append("listed")

    def watching(self) -> None:
        self.told.append("watching")

    def changed(self, kind: str, item: JsonObject) -> None:
        name = item["metadata"]["name"]
        self.told.append(f"{kind} {name}")
        (self.names.discard if kind == "DELETED" else self.names.add)(name)

    def lost(self) -> None:
        self.told.append("lost")


def node(name: str, version: int) -> JsonObject:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listing(version: int, *items: JsonObject, more: str = "") -> JsonObject:
    fields = {"resourceVersion": str(version)} | ({"continue": more} if more else {})
    return {"metadata": fields, "items": list(items)}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(follow_module, "_LONGEST_PAUSE", 0.002)


@contextlib.asynccontextmanager
async def following(
    kube: ScriptedKube, *, changes_only: bool = False, selectors: Mapping[str, str] | None = None
) -> AsyncIterator[View]:
    view = View()
    coroutine = follow(kube, PATH, view, selectors=selectors, changes_only=changes_only)
    task = asyncio.create_task(coroutine)
    try:
        yield view
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def watch_of(kube: ScriptedKube, count: int = 1) -> FedWatch:
    await until(lambda: len(kube.watches) == count)
    return kube.watches[-1]


async def test_a_list_then_each_change() -> None:
    kube = ScriptedKube(lambda method, path: listing(7, node("a", 3), node("b", 5)))
    async with following(kube, selectors={"labelSelector": "x"}) as view:
        watch = await watch_of(kube)
        assert watch.query == {
            "labelSelector": "x",
            "resourceVersion": "7",
            "allowWatchBookmarks": "true",
        }
        watch.send("ADDED", node("c", 8))
        watch.send("DELETED", node("a", 9))
        await until(lambda: view.names == {"b", "c"})
        assert view.told == ["listed", "watching", "ADDED c", "DELETED a"]


async def test_the_next_watch_begins_where_the_last_one_ended() -> None:
    kube = ScriptedKube(lambda method, path: listing(7))
    async with following(kube) as view:
        watch = await watch_of(kube)
        watch.send("ADDED", node("c", 8))
        watch.send("BOOKMARK", {"metadata": {"resourceVersion": "12"}})
        watch.end()
        assert (await watch_of(kube, 2)).query["resourceVersion"] == "12"
        await until(lambda: view.told[-1] == "watching")
        assert view.told == ["listed", "watching", "ADDED c", "lost", "watching"]
    assert len(kube.requests) == 1


@pytest.mark.parametrize("way", ["refused", "event"])
async def test_what_is_too_old_is_listed_again(way: str) -> None:
    kube = ScriptedKube(lambda method, path: listing(7))
    gone = ApiRefused(410, "the watch")
    if way == "refused":
        kube.watch_error = gone
    async with following(kube) as view:
        if way == "refused":
            await until(lambda: len(kube.requests) > 1)
            kube.watch_error = None
        else:
            watch = await watch_of(kube)
            watch.send("ERROR", {"code": 410, "reason": "Expired"})
            await watch_of(kube, 2)
        kube.answer = lambda method, path: listing(99, node("z", 98))
        if way == "event":
            kube.watches[-1].fail(gone)
        else:
            (await watch_of(kube)).fail(gone)
        await until(lambda: view.names == {"z"})


async def test_no_failure_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    failure = LookupFailed("the API is away")
    kube = ScriptedKube(lambda method, path: failure)
    async with following(kube) as view:
        await until(lambda: len(kube.requests) > 20)
        kube.answer = lambda method, path: {"items": "nonsense"}
        await until(lambda: "listed no objects" in caplog.text)
        kube.answer = lambda method, path: listing(1, node("a", 1))
        watch = await watch_of(kube)
        watch.send("ADDED", node("b", 2))
        await until(lambda: view.names == {"a", "b"})
        watch.fail(failure)
        (await watch_of(kube, 2)).send("DELETED", node("b", 3))
        await until(lambda: view.names == {"a"})
        kube.watches[-1].send("nonsense", {})
        kube.watches[-1]._events.put_nowait({"type": 1})
        await watch_of(kube, 3)
    # The same failure is told once a minute, not each time.
    assert caplog.text.count("the API is away") == 1


class Paged(ScriptedKube):
    """Two pages, whichever way they are asked for."""

    def __init__(self) -> None:
        super().__init__(lambda method, path: None)
        self.queries: list[dict[str, str]] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
    ) -> JsonObject:
        self.queries.append(dict(query or {}))
        second = "continue" in (query or {})
        return listing(7, node("b", 2)) if second else listing(7, node("a", 1), more="next")


async def test_long_lists_come_in_pages() -> None:
    kube = Paged()
    async with following(kube) as view:
        await watch_of(kube)
        assert view.names == {"a", "b"}
    assert [query.get("continue") for query in kube.queries] == [None, "next"]


async def test_who_wants_changes_only_is_told_no_objects() -> None:
    kube = Paged()
    async with following(kube, changes_only=True) as view:
        await watch_of(kube)
        assert view.names == set()
    assert kube.queries == [{"limit": "1"}]


async def test_pauses_grow_and_begin_again() -> None:
    pauses = Pauses(1.0, 4.0)
    steps = [pauses.next() for _ in range(5)]
    for step, (low, high) in zip(steps, [(0.5, 1), (1, 2), (2, 4), (2, 4), (2, 4)], strict=True):
        assert low <= step <= high
    pauses.reset()
    assert pauses.next() <= 1


async def test_a_real_collection_is_followed(tmp_path: Path) -> None:
    nodes = [{"name": "edge-1", "labels": {"edge": ""}}, {"name": "master"}]
    async with kube_server(tmp_path, nodes=nodes) as server:
        api, view = server.api(), View()
        selectors = {"labelSelector": "edge"}
        task = asyncio.create_task(follow(api, PATH, view, selectors=selectors))
        await until(lambda: "watching" in view.told)
        assert view.names == {"edge-1"}
        new: Answer = {"metadata": {"name": "edge-2", "labels": {"edge": ""}}, "status": {}}
        assert isinstance(new, dict)
        server.world.nodes.create("", new)
        await until(lambda: view.names == {"edge-1", "edge-2"})
        server.world.nodes.delete(("", "edge-1"))
        await until(lambda: view.names == {"edge-2"})
        await server.stop()
        await until(lambda: view.told[-1] == "lost")
        await server.start()
        await until(lambda: view.told.count("watching") == 2)
        task.cancel()
        await asyncio.wait([task])
        await api.close()
