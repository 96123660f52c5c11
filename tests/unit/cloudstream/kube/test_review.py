import asyncio
from pathlib import Path

import pytest

import cloudstream.kube.review as module
from cloudstream.kube.api import ApiRefused
from cloudstream.kube.review import Access, Reviewer, User
from streamkit.errors import LookupFailed
from tests.support.clock import Clock, clock_of
from tests.support.kube import Answer, ScriptedKube
from tests.support.kube_server import kube_server

USER = User("prometheus", "7", ("a", "b"), {"scopes": ["x"]})
ACCESS = Access("get", "edge-1", "metrics")
KNOWN: Answer = {
    "status": {
        "authenticated": True,
        "user": {"username": "prometheus", "uid": "7", "groups": ["a", "b"], "extra": USER.extra},
    }
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(module, monkeypatch)


def answering(answer: Answer) -> tuple[Reviewer, ScriptedKube]:
    kube = ScriptedKube(lambda method, path: answer)
    return Reviewer(kube), kube


async def test_a_user_is_asked_for_once_in_a_while(clock: Clock) -> None:
    reviewer, kube = answering(KNOWN)
    for now, asked in ((0, 1), (119, 1), (121, 2)):
        clock.now = 1000.0 + now
        assert await reviewer.user_of("secret") == USER
        assert len(kube.requests) == asked
    assert kube.requests[0] == "POST /apis/authentication.k8s.io/v1/tokenreviews"
    assert kube.bodies[0] == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "secret"},
    }


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [({"status": {"allowed": True}}, 300), ({"status": {"allowed": False}}, 30)],
    ids=["allowed", "denied"],
)
async def test_decisions_last_as_long_as_a_kubelets(
    clock: Clock, answer: Answer, seconds: float
) -> None:
    reviewer, kube = answering(answer)
    for now, asked in ((0, 1), (seconds - 1, 1), (seconds + 1, 2)):
        clock.now = 1000.0 + now
        assert await reviewer.allows(USER, ACCESS) == (seconds == 300)
        assert len(kube.requests) == asked
    assert kube.requests[0] == "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"


async def test_an_unknown_token_is_remembered_for_half_a_minute(clock: Clock) -> None:
    reviewer, kube = answering({"status": {"authenticated": False, "error": "expired"}})
    for now, asked in ((0, 1), (29, 1), (31, 2)):
        clock.now = 1000.0 + now
        assert await reviewer.user_of("secret") is None
        assert len(kube.requests) == asked


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": None},
        {"status": {"authenticated": True}},
        {"status": {"authenticated": True, "user": {"username": ""}}},
    ],
)
async def test_an_answer_that_is_no_review_is_a_failure(answer: Answer) -> None:
    reviewer, _ = answering(answer)
    with pytest.raises(LookupFailed, match="answered a TokenReview without"):
        await reviewer.user_of("secret")


async def test_only_a_clear_yes_is_one() -> None:
    for status in ({}, {"allowed": "yes"}, {"allowed": True, "denied": True}):
        reviewer, _ = answering({"status": status})
        assert not await reviewer.allows(USER, ACCESS)


async def test_a_failure_is_not_remembered() -> None:
    reviewer, kube = answering(ApiRefused(403, "POST"))
    with pytest.raises(LookupFailed, match="403"):
        await reviewer.allows(USER, ACCESS)
    kube.answer = lambda method, path: {"status": {"allowed": True}}
    assert await reviewer.allows(USER, ACCESS)


async def test_users_and_accesses_are_told_apart() -> None:
    reviewer, kube = answering({"status": {"allowed": True}})
    for user in (USER, User("prometheus", "7", ("a",)), User("prometheus", "8", ("a", "b"))):
        for access in (ACCESS, Access("get", "edge-2", "metrics"), Access("create", "edge-1", "x")):
            await reviewer.allows(user, access)
            await reviewer.allows(user, access)
    assert len(kube.requests) == 9


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    reviewer, kube = answering(KNOWN)
    for token in ("a", "b", "c", "c", "b", "a"):
        await reviewer.user_of(token)
    assert len(kube.requests) == 4


async def test_many_who_ask_at_once_share_a_question_and_one_may_leave() -> None:
    reviewer, kube = answering(KNOWN)
    kube.released.clear()
    asking = [asyncio.ensure_future(reviewer.user_of("secret")) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    kube.released.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*asking[1:]) == [USER] * 99
    assert len(kube.requests) == 1
    await reviewer.close()
    await reviewer.close()


async def test_a_real_api_answers(tmp_path: Path) -> None:
    tokens = {"scraper": {"user": "prometheus", "groups": ["g"], "allowed": ["nodes/metrics"]}}
    async with kube_server(tmp_path, tokens=tokens) as server:
        api = server.api()
        reviewer = Reviewer(api)
        user = await reviewer.user_of("scraper")
        assert user == User("prometheus", "prometheus", ("g",))
        assert await reviewer.user_of("nobody's") is None
        assert await reviewer.allows(user, ACCESS)
        assert not await reviewer.allows(user, Access("get", "edge-1", "proxy"))
        await reviewer.close()
        await api.close()
