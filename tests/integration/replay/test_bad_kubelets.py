"""What a kubelet does wrong reaches the user in the best shape that there is.

``tests/wire/recordings`` tells what kubectl made of it where nothing was in between: some answers
lose their words, and a session that was lost looks like a success.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.replay.heard import OPENED, Heard
from tests.integration.replay.kubelets import (
    DELAY,
    OPEN_DEADLINE,
    SCRIPTS,
    STARTED,
    STATUS,
    WORDS,
    behind,
)
from tests.integration.replay.recordings import load_rows
from tests.support.api_client import Answer, ApiClient, api_client
from tests.support.cloud import Cloud
from tests.support.http_server import Peer

LIMIT = 20.0
ANSWERS = {row["answer"]: row for row in load_rows("answers")}
ENDINGS = {row["ending"]: row["user"] for row in load_rows("endings")}
PROXIED = "X-Forwarded-Uri: /api/v1/nodes/edge-1/proxy/stats"


async def ask(cloud: Cloud, kind: str, name: str = "pod") -> Answer:
    """The answer to a request of that kind; the kubelet sees the name in its path."""
    async with api_client(cloud) as client:
        if kind == "proxy":
            return await client.get(f"/stats/{name}", PROXIED)
        if kind == "logs":
            return await client.get(f"/containerLogs/default/{name}/c")
        return await client.upgrade(target(kind, name))


def target(kind: str, name: str = "pod") -> str:
    if kind == "port-forward":
        return f"/portForward/default/{name}"
    return f"/{kind}/default/{name}/c?command=x&output=1&error=1"


def words_of(answer: Answer) -> str:
    """The sentence of a whole answer."""
    assert "retry-after" not in answer.headers  # kubectl would repeat ten times before it tells
    body = answer.body.decode()
    assert answer.is_complete
    return str(json.loads(body)["message"]) if is_json(answer) else body


def is_json(answer: Answer) -> bool:
    return answer.headers["content-type"] == "application/json"


def is_shown(kind: str, answer: Answer) -> bool:
    """Whether it is recorded that users get to read such an answer."""
    form = "status-json" if is_json(answer) else "text"
    shown: list[str] = ANSWERS[f"{answer.status}-{form}"]["shown"]
    return kind in shown


# -- answers


async def says_what_is_recorded(peer: Peer) -> None:
    """A kubelet whose answer is named in the path."""
    request_line, *_ = await peer.receive_head()
    parts = request_line.split()[1].split("/")
    name = next(part for part in parts if part in ANSWERS)
    row = ANSWERS[name]
    body = row["body"].encode()
    lines = [
        f"HTTP/1.1 {row['status']} Whatever",
        *(f"{n}: {v}" for n, v in row.get("headers", ())),
    ]
    lines += [f"Content-Type: {row['type']}"] if row["type"] else []
    lines.append("Connection: close" if row.get("framing") else f"Content-Length: {len(body)}")
    await peer.send("\r\n".join((*lines, "", "")).encode() + body)


@pytest.mark.parametrize("kind", ["logs", "exec", "port-forward", "proxy"])
async def test_every_recorded_refusal_is_shown(pki: Path, version: str, kind: str) -> None:
    async with behind(pki, says_what_is_recorded) as cloud:
        for name, row in ANSWERS.items():
            answer = await ask(cloud, kind, name)
            if row["status"] < 400:  # the API server has words of its own for those
                assert (answer.status, answer.body.decode()) == (row["status"], row["body"])
                continue
            told = words_of(answer)
            assert is_shown(kind, answer), (name, answer)
            wanted = row["body"].strip()
            if wanted.startswith("{"):
                wanted = json.loads(wanted)["message"]
            assert wanted in told, name
            assert told.strip(), name


# -- no answer


def test_every_recorded_ending_is_tried() -> None:
    tried = (*NO_ANSWER, *LATE, *CUT, *BEHIND_THE_101, *SESSIONS, "session-freeze")
    assert sorted(tried) == sorted(ENDINGS)
    assert SCRIPTS.keys() == ENDINGS.keys()


NO_ANSWER = [
    "connection-refused",
    "tcp-rst-after-accept",
    "tcp-fin-after-accept",
    "close-without-answer",
    "rst-without-answer",
    "garbage-answer",
    "silent-30s-then-close",
    "silent-75s-then-close",
]


async def each_kind(cloud: Cloud, ending: str, check: Callable[[str], Awaitable[None]]) -> None:
    """Check all kinds of requests for which there is a recording, at once."""
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(check(kind) for kind in ENDINGS[ending]))


@pytest.mark.parametrize("ending", NO_ANSWER)
async def test_no_answer_is_told_as_such(pki: Path, version: str, ending: str) -> None:
    async with behind(pki, SCRIPTS[ending]) as cloud:

        async def check(kind: str) -> None:
            answer = await ask(cloud, kind)
            told = words_of(answer)
            assert is_shown(kind, answer), answer
            if "silent" in ending:
                assert f"did not answer within {OPEN_DEADLINE:g} s" in told
            else:
                assert "the kubelet on 127.0.0.1" in told

        await each_kind(cloud, ending, check)


LATE = ["answer-delayed-5s", "answer-delayed-40s", "dribble"]


@pytest.mark.parametrize("ending", LATE)
async def test_a_late_answer_is_an_answer(pki: Path, version: str, ending: str) -> None:
    async with behind(pki, SCRIPTS[ending]) as cloud:

        async def check(kind: str) -> None:
            answer = await ask(cloud, kind)
            assert (answer.status, answer.body, answer.is_complete) == (200, WORDS, True)

        await each_kind(cloud, ending, check)


CUT = ["truncated-fin", "truncated-close-notify", "truncated-rst"]


@pytest.mark.parametrize("ending", CUT)
async def test_a_cut_answer_is_told_as_such(pki: Path, version: str, ending: str) -> None:
    assert ENDINGS[ending]["logs"] == [[0]]  # kubectl takes it for the whole
    async with behind(pki, SCRIPTS[ending]) as cloud:

        async def check(kind: str) -> None:
            answer = await ask(cloud, kind)
            assert not answer.is_complete
            assert answer.body.startswith(WORDS)
            if kind == "logs":
                assert b"[KS" in answer.body.splitlines()[-1]

        await each_kind(cloud, ending, check)


# -- sessions

BEHIND_THE_101 = [
    "101-then-close",
    "101-then-close-1s",
    "101-then-rst",
    "101-then-silence-45s",
    "101-without-protocol-header",
]
SESSIONS = [
    "session-fin",
    "session-close-notify",
    "session-rst",
    "session-rststreams",
    "session-goaway",
    "session-status",
    "session-status-no-fin-others",
]


async def opened(client: ApiClient, kind: str) -> None:
    """A session is begun as kubectl begins it."""
    answer = await client.upgrade(target(kind))
    assert answer.status == 101
    client.writer.write(OPENED)


@pytest.mark.parametrize("ending", SESSIONS)
@pytest.mark.parametrize("kind", ["exec", "attach"])
async def test_a_lost_session_is_a_failure(pki: Path, version: str, ending: str, kind: str) -> None:
    async with behind(pki, SCRIPTS[ending]) as cloud, api_client(cloud) as client:
        await opened(client, kind)
        heard = Heard(await client.rest())
    assert heard.output == STARTED
    if "session-status" in ending:
        assert heard.statuses == [json.loads(STATUS)]
    else:
        assert ENDINGS[ending][kind] == [[0]]  # kubectl takes it for a success
        heard.check_failure()


@pytest.mark.parametrize("ending", [each for each in SESSIONS if "status" not in each])
async def test_a_lost_port_forward_is_closed(pki: Path, version: str, ending: str) -> None:
    """kubectl has a sentence of its own for it."""
    assert ENDINGS[ending]["port-forward"] == [[1, "error: lost connection to pod"]]
    async with behind(pki, SCRIPTS[ending]) as cloud, api_client(cloud) as client:
        await opened(client, "port-forward")
        try:
            assert STARTED in await client.rest()
        except ConnectionError:
            assert ending == "session-rst"


@pytest.mark.parametrize("kind", ["exec", "attach"])
@pytest.mark.parametrize("ending", ["101-then-close", "101-then-close-1s", "101-then-rst"])
async def test_a_session_that_never_began_is_a_failure(
    pki: Path, version: str, kind: str, ending: str
) -> None:
    async with behind(pki, SCRIPTS[ending]) as cloud, api_client(cloud) as client:
        await opened(client, kind)
        Heard(await client.rest()).check_failure()


async def test_a_session_without_a_version_is_left_alone(pki: Path, version: str) -> None:
    """Its client takes it for one of the first version, whose status is text."""
    async with (
        behind(pki, SCRIPTS["101-without-protocol-header"]) as cloud,
        api_client(cloud) as client,
    ):
        await opened(client, "exec")
        heard = Heard(await client.rest())
    assert (heard.output, heard.statuses) == (STARTED, [json.loads(STATUS)])


@pytest.mark.parametrize("ending", ["101-then-silence-45s", "session-freeze"])
async def test_a_session_that_says_nothing_lasts_as_long_as_its_caller_wants(
    pki: Path, version: str, ending: str
) -> None:
    async with behind(pki, SCRIPTS[ending]) as cloud:
        async with api_client(cloud) as client:
            await opened(client, "exec")
            reading = asyncio.create_task(client.rest())
            await asyncio.wait([reading], timeout=OPEN_DEADLINE + DELAY)
            assert not reading.done()
            reading.cancel()
        registry = cloud.service.registry
        async with asyncio.timeout(LIMIT):
            while registry.by_name("edge-1").session.channel_count:
                await asyncio.sleep(0)
