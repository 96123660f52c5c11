import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

import cloudstream.kube.pods as pods_module
from cloudstream.kube.api import ApiRefused, JsonObject
from cloudstream.kube.pods import PodDirectory
from streamkit.errors import LookupFailed, PodNotFound, PodNotScheduled
from tests.support.clock import Clock, clock_of
from tests.support.kube import Answer, FedWatch, ScriptedKube, pod, pods_on
from tests.support.wait import until

NOT_FOUND = ApiRefused(404, "GET pod")
AWAY = LookupFailed("away")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(pods_module, monkeypatch)


def in_turn(*answers: str | Exception | None) -> Callable[[str, str], Answer]:
    """One answer after the other: a node's name, an error, or never one."""
    left = iter(answers)

    def answer(method: str, path: str) -> Answer:
        found = next(left)
        return {"spec": {"nodeName": found}} if isinstance(found, str) else found

    return answer


def directory(*answers: str | Exception | None, deadline: float = 5) -> PodDirectory:
    return PodDirectory(ScriptedKube(in_turn(*answers)), deadline=deadline)


async def node_of(pods: PodDirectory, name: str = "web") -> str:
    async with asyncio.timeout(5):
        return await pods.node_of("ns", name)


async def test_a_pods_node_is_remembered_for_a_while(clock: Clock) -> None:
    pods = directory("edge-1", "edge-2")
    assert [await node_of(pods), await node_of(pods)] == ["edge-1", "edge-1"]
    clock.now += 10
    assert await node_of(pods) == "edge-2"


async def test_doubt_asks_again_at_once() -> None:
    pods = directory("edge-1", "edge-2")
    await node_of(pods)
    pods.doubt("ns", "web")
    pods.doubt("ns", "unheard-of")
    assert await node_of(pods) == "edge-2"


@pytest.mark.parametrize("outage", [AWAY, None], ids=["failed", "silent"])
async def test_a_known_pod_is_found_all_through_an_outage(
    clock: Clock, outage: Exception | None
) -> None:
    kube = ScriptedKube(in_turn("edge-1"))
    pods = PodDirectory(kube, deadline=0.01)
    await node_of(pods)
    kube.answer = lambda method, path: outage
    for _ in range(600):
        clock.now += 0.1
        assert await node_of(pods) == "edge-1"
        await asyncio.sleep(0)
    # An API that has just failed is asked about every five seconds.
    assert 2 <= len(kube.requests) <= 14
    await until(lambda: not pods._readings)
    kube.answer = in_turn("edge-2")
    clock.now += 5
    # Whether it is back is seen beside: nobody waits for that.
    assert await node_of(pods) == "edge-1"
    await until(lambda: not pods._readings)
    assert await node_of(pods) == "edge-2"


async def test_nobody_waits_long_for_an_api_where_a_pod_is_known(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods_module, "_PATIENCE", 0.01)
    pods = directory("edge-1", None, deadline=3600)
    await node_of(pods)
    clock.now += 11
    assert await node_of(pods) == "edge-1"
    await pods.close()


async def test_a_pod_in_doubt_is_found_through_an_outage() -> None:
    pods = directory("edge-1", AWAY)
    await node_of(pods)
    for _ in range(2):
        pods.doubt("ns", "web")
        assert await node_of(pods) == "edge-1"


async def test_an_outage_is_told_where_nothing_is_known() -> None:
    with pytest.raises(LookupFailed, match="away"):
        await node_of(directory(AWAY))
    with pytest.raises(LookupFailed, match="did not answer in time"):
        await node_of(directory(None, deadline=0.01))


async def test_a_pod_without_a_node_is_not_remembered() -> None:
    pods = directory("", "edge-1")
    with pytest.raises(PodNotScheduled, match='pod "web" in namespace "ns" has no node yet'):
        await node_of(pods)
    assert await node_of(pods) == "edge-1"


async def test_a_deleted_pod_is_told_and_forgotten() -> None:
    pods = directory("edge-1", NOT_FOUND, AWAY)
    await node_of(pods)
    pods.doubt("ns", "web")
    with pytest.raises(PodNotFound, match='pod "web" does not exist in namespace "ns"'):
        await node_of(pods)
    with pytest.raises(LookupFailed):
        await node_of(pods)


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_what_can_be_no_name_is_not_asked_for(name: str) -> None:
    pods = directory()
    with pytest.raises(PodNotFound):
        await node_of(pods, name)


@pytest.mark.parametrize("answer", [{}, {"spec": None}, {"spec": "x"}])
async def test_an_answer_that_is_no_pod_is_a_failed_lookup(answer: Answer) -> None:
    pods = PodDirectory(ScriptedKube(lambda method, path: answer), deadline=5)
    with pytest.raises(LookupFailed, match="answered no Pod"):
        await node_of(pods)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods_module, "_CACHE_SIZE", 2)
    pods = directory("edge-1", "edge-2", "edge-3", "edge-4")
    for name in ("a", "b", "c", "c", "b"):
        await node_of(pods, name)
    assert await node_of(pods, "a") == "edge-4"


async def test_many_calls_are_few_reads() -> None:
    kube = ScriptedKube(pods_on({f"ns/p{number}": "edge-1" for number in range(10)}))
    pods = PodDirectory(kube, deadline=5)
    async with asyncio.timeout(20):
        await asyncio.gather(*(pods.node_of("ns", f"p{call % 10}") for call in range(1000)))
    assert len(kube.requests) == 10


async def test_a_reader_that_leaves_takes_no_answer_from_the_others() -> None:
    kube = ScriptedKube(in_turn("edge-1"))
    kube.released.clear()
    pods = PodDirectory(kube, deadline=5)
    first, second = (asyncio.ensure_future(node_of(pods)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    kube.released.set()
    assert await second == "edge-1"


async def test_closing_ends_what_is_being_asked() -> None:
    pods = directory(None)
    asking = asyncio.ensure_future(node_of(pods))
    await asyncio.sleep(0)
    await pods.close()
    await pods.close()
    await asyncio.wait([asking], timeout=5)
    assert asking.cancelled()


# -- with a watch --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watched(pods: PodDirectory) -> AsyncIterator[None]:
    """The directory with its watch task."""
    task = asyncio.create_task(pods.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def watching(kube: ScriptedKube, pods: PodDirectory, count: int = 1) -> FedWatch:
    """Wait for the watch, which the first lookup starts."""
    await until(lambda: len(kube.watches) == count and pods._is_watching)
    return kube.watches[-1]


async def test_nothing_is_watched_before_anybody_asks() -> None:
    kube = ScriptedKube(pods_on({"ns/web": "edge-1"}))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await asyncio.sleep(0)
        assert kube.requests == []
        await node_of(pods)
        watch = await watching(kube, pods)
        assert watch.query["resourceVersion"] == "1"
        assert watch.query["fieldSelector"] == "spec.nodeName!="


async def test_what_is_watched_is_not_asked_again(clock: Clock) -> None:
    nodes: dict[str, str | Exception] = {"ns/web": "edge-1"}
    kube = ScriptedKube(pods_on(nodes))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods)
        watch = await watching(kube, pods)
        clock.now += 3600
        await node_of(pods)  # what was read before the watch began is read once more
        before = len(kube.requests)
        watch.send("MODIFIED", pod("web", "edge-1"))
        watch.send("MODIFIED", pod("other", "edge-7"))
        for _ in range(10):
            clock.now += 3600
            assert await node_of(pods) == "edge-1"
        assert len(kube.requests) == before
        nodes["ns/web"] = "edge-2"
        watch.send("DELETED", pod("web", "edge-1"))
        watch.send("ADDED", pod("web", "edge-2"))
        await until(lambda: pods._known["ns", "web"].view is None)
        assert await node_of(pods) == "edge-2"
        assert len(kube.requests) == before + 1


async def test_what_changes_while_it_is_read_is_read_again() -> None:
    nodes: dict[str, str | Exception] = {"ns/web": "edge-1", "ns/a": "edge-1"}
    kube = ScriptedKube(pods_on(nodes))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods, "a")
        await watching(kube, pods)
        kube.released.clear()
        reading = asyncio.ensure_future(node_of(pods))
        await until(lambda: "GET /api/v1/namespaces/ns/pods/web" in kube.requests)
        pods.changed("MODIFIED", pod("web", "edge-2"))
        kube.released.set()
        assert await reading == "edge-1"
        nodes["ns/web"] = "edge-2"
        assert await node_of(pods) == "edge-2"


@pytest.mark.parametrize("gap", [False, True], ids=["continued", "410"])
async def test_a_broken_watch_confirms_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, gap: bool
) -> None:
    monkeypatch.setattr("cloudstream.kube.follow._FIRST_PAUSE", 0.001)
    nodes: dict[str, str | Exception] = {"ns/web": "edge-1"}
    kube = ScriptedKube(pods_on(nodes))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods)
        watch = await watching(kube, pods)
        clock.now += 11
        await node_of(pods)
        before = len([each for each in kube.requests if each.endswith("/web")])
        watch.send("ERROR", {"code": 410 if gap else 500, "message": "too old"})
        await watching(kube, pods, 2)
        clock.now += 11
        await node_of(pods)
        asked = len([each for each in kube.requests if each.endswith("/web")]) - before
        # After a gap, what was known has to be read again; else it still holds.
        assert asked == (1 if gap else 0)


async def test_without_permission_to_watch_pods_are_asked_for_more_often(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    kube = ScriptedKube(pods_on({"ns/web": "edge-1"}), watch_error=ApiRefused(403, "the watch"))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods)
        await until(lambda: "answered 403 to the watch" in caplog.text)
        clock.now += 11
        await node_of(pods)
    assert len([each for each in kube.requests if each.endswith("/web")]) == 2


async def test_the_watch_ends_when_nobody_asks_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pods_module, "_IDLE", 0.01)
    kube = ScriptedKube(pods_on({"ns/web": "edge-1"}))
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods)
        await until(lambda: not pods._asked.is_set())
        assert not pods._is_watching
        await node_of(pods)
        await until(lambda: len(kube.watches) > 1)


def told(pods: PodDirectory, *, node: str = "edge-1", since: float = 0) -> tuple[str, bool] | None:
    """The container's reason for waiting, and whether that is known to be current."""
    facts = pods.facts_of("ns", "web", node, since=since)
    return (facts.containers[0].reason, facts.is_current) if facts else None


def waiting_pod(reason: str, *, node: str = "edge-1", uid: str = "u1") -> JsonObject:
    status = {"name": "app", "state": {"waiting": {"reason": reason}}}
    return {
        "metadata": {"namespace": "ns", "name": "web", "uid": uid},
        "spec": {"nodeName": node, "containers": [{"name": "app"}]},
        "status": {"containerStatuses": [status]},
    }


async def test_facts_are_current_if_they_were_asked_for_just_now(clock: Clock) -> None:
    pods = PodDirectory(ScriptedKube(lambda method, path: waiting_pod("A")), deadline=5)
    assert told(pods) is None
    await node_of(pods)
    assert told(pods, since=clock.now) == ("A", True)
    assert told(pods, since=clock.now + 1) == ("A", False)
    pods.doubt("ns", "web")
    assert told(pods, since=clock.now) == ("A", False)
    assert told(pods, node="edge-2") is None


async def test_a_pod_without_an_identity_has_no_facts() -> None:
    pods = directory("edge-1")
    await node_of(pods)
    assert told(pods) is None


async def test_facts_are_current_while_they_are_watched(clock: Clock) -> None:
    def answer(method: str, path: str) -> Answer:
        if path.endswith("/pods/web"):
            return waiting_pod("A")
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    kube = ScriptedKube(answer)
    pods = PodDirectory(kube, deadline=5)
    async with watched(pods):
        await node_of(pods)
        watch = await watching(kube, pods)
        clock.now += 3600
        await node_of(pods)
        assert told(pods, since=clock.now + 1) == ("A", True)
        watch.send("MODIFIED", waiting_pod("B"))
        await until(lambda: told(pods, since=clock.now + 1) == ("B", True))
        watch.send("MODIFIED", waiting_pod("C", node="edge-2"))
        await until(lambda: told(pods, since=clock.now) == ("B", False))
    assert told(pods, since=clock.now + 1) == ("B", False)
