import asyncio
import json

import grpc
import pytest

from edgestream.answers import KubeletAnswer
from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import CriBackend
from edgestream.kubelet.remote_command import StreamOptions, parse_stream_options
from edgestream.kubelet.serve import answer
from streamkit.wire.exchange import Headers, RequestHead
from tests.support.exchange import MemoryExchange, ask
from tests.support.http_server import SWITCHED, Peer, scripted_server
from tests.support.runtime import ScriptedRuntime, sandbox

LIMIT = 5.0
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
STREAMS = "output=1&error=1"


FORM = (("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),)


async def switch(peer: Peer) -> None:
    await peer.receive_head()
    await peer.send(SWITCHED + b"output")


async def ask_upgraded(backend: CriBackend, target: str) -> tuple[int, str]:
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("POST", target, UPGRADE))
    return head.status, body.decode()


def tell_tty(runtime: ScriptedRuntime, config: object) -> None:
    runtime.statuses["c1"] = cri_pb2.ContainerStatusResponse(
        info={"info": json.dumps({"pid": 1, "config": config})}
    )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("input=1", StreamOptions(True, False, False, False, ())),
        (
            "command=sh&command=&output=1&error=1&command=a+b%26",
            StreamOptions(False, True, True, False, ("sh", "", "a b&")),
        ),
        ("tty=1&input=1&error=1", StreamOptions(True, False, False, True, ())),
        ("output=1&input=true&error=2", StreamOptions(False, True, False, False, ())),
    ],
)
def test_options(query: str, options: StreamOptions) -> None:
    assert parse_stream_options(query) == options


@pytest.mark.parametrize("query", ["", "command=id", "input=true", "tty=1&error=1", "output=0"])
def test_some_stream_is_needed(query: str) -> None:
    with pytest.raises(KubeletAnswer, match="at least 1 of stdin, stdout, stderr") as caught:
        parse_stream_options(query)
    assert caught.value.status == 400


def test_a_posted_form_comes_first_and_names_no_command() -> None:
    options = parse_stream_options("command=id&output=1&error=1", "output=0&input=1&command=x")
    assert options == StreamOptions(True, False, True, False, ("id",))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (FORM, 500),
        ((("Content-Type", "text/plain"),), 400),
        ((), 400),
    ],
)
async def test_options_in_the_body_of_a_plain_request(
    backend: CriBackend, runtime: ScriptedRuntime, headers: Headers, status: int
) -> None:
    runtime.streaming_url = "http://127.0.0.1:9/exec/t0k3n"
    form = b"output=1"
    length = ("Content-Length", str(len(form)))
    request = RequestHead("POST", "/exec/default/web/app?command=id", (*headers, length))
    exchange = MemoryExchange(request)
    await exchange.send(form)
    await exchange.send_eof()
    async with asyncio.timeout(LIMIT):
        await answer(backend, exchange)
    assert (await exchange.head()).status == status
    if status == 500:
        assert runtime.requests[-1] == cri_pb2.ExecRequest(
            container_id="c1", cmd=["id"], stdout=True
        )


async def test_a_form_that_never_came_is_not_waited_for(backend: CriBackend) -> None:
    async with asyncio.timeout(LIMIT):
        head, _ = await ask(backend, RequestHead("POST", "/exec/default/web/app", FORM))
    assert head.status == 400


@pytest.mark.parametrize("path", ["/exec/default/web/app", "/exec/default/web/any-uid/app"])
async def test_exec_asks_the_runtime_and_streams(
    backend: CriBackend, runtime: ScriptedRuntime, path: str
) -> None:
    async with scripted_server(switch) as server:
        runtime.streaming_url = server.url
        answer = await ask_upgraded(backend, f"{path}?command=sh&command=-c&command=a+b&{STREAMS}")
    assert answer == (101, "output")
    assert runtime.requests[-1] == cri_pb2.ExecRequest(
        container_id="c1", cmd=["sh", "-c", "a b"], stdout=True, stderr=True
    )


async def test_the_query_is_checked_before_the_pod(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    status, _ = await ask_upgraded(backend, "/exec/default/nope/app?command=id")
    assert status == 400
    assert not runtime.requests


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/exec/default/nope/app", 404, "pod does not exist"),
        ("/exec/other/web/app", 404, "pod does not exist"),
        ("/exec/default/web/nope", 500, 'container not found ("nope")'),
        ("/attach/default/nope/app", 404, "pod does not exist"),
        ("/attach/default/web/nope", 500, "container nope not found in pod web_default"),
        ("/attach/default/web/other/app", 500, "pod web_default not found"),
    ],
)
async def test_lookup_failures(
    backend: CriBackend, runtime: ScriptedRuntime, target: str, status: int, body: str
) -> None:
    assert await ask_upgraded(backend, f"{target}?{STREAMS}") == (status, body)


async def test_a_stopped_container_is_not_found(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    runtime.containers[0].state = cri_pb2.CONTAINER_EXITED
    answer = await ask_upgraded(backend, f"/exec/default/web/app?{STREAMS}")
    assert answer == (500, 'container not found ("app")')


async def test_attach_takes_the_tty_from_the_container(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    tell_tty(runtime, {"tty": True})
    async with scripted_server(switch) as server:
        runtime.streaming_url = server.url
        target = f"/attach/default/web/u1/app?input=1&{STREAMS}"
        assert await ask_upgraded(backend, target) == (101, "output")
    assert runtime.requests[-1] == cri_pb2.AttachRequest(
        container_id="c1", stdin=True, stdout=True, stderr=True, tty=True
    )


@pytest.mark.parametrize(
    ("config", "tty"), [({"tty": True}, True), ({}, False), (None, True), ("odd", True)]
)
async def test_the_tty_is_as_asked_only_where_the_runtime_is_silent(
    backend: CriBackend, runtime: ScriptedRuntime, config: object, tty: bool
) -> None:
    tell_tty(runtime, config)
    async with scripted_server(switch) as server:
        runtime.streaming_url = server.url
        await ask_upgraded(backend, "/attach/default/web/app?output=1&tty=1")
    assert runtime.requests[-1].tty is tty


async def test_attach_to_a_static_pod_by_its_mirror_uid(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    source = {"kubernetes.io/config.source": "file"}
    runtime.sandboxes = [sandbox("s1", created_at=1, annotations=source)]
    tell_tty(runtime, {})
    async with scripted_server(switch) as server:
        runtime.streaming_url = server.url
        answer = await ask_upgraded(backend, "/attach/default/web/mirror/app?output=1")
    assert answer == (101, "output")


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (grpc.StatusCode.NOT_FOUND, 404, "NotFound"),
        (grpc.StatusCode.UNKNOWN, 500, "Unknown"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "ResourceExhausted"),
    ],
)
async def test_refusals_of_the_runtime(
    backend: CriBackend,
    runtime: ScriptedRuntime,
    code: grpc.StatusCode,
    status: int,
    name: str,
) -> None:
    runtime.refusals["Exec"] = code, "because"
    answer = await ask_upgraded(backend, f"/exec/default/web/app?{STREAMS}")
    assert answer == (status, f"rpc error: code = {name} desc = because")


async def test_a_plain_request_is_refused_after_the_runtime_was_asked(
    backend: CriBackend, runtime: ScriptedRuntime
) -> None:
    runtime.streaming_url = "http://127.0.0.1:1/x"
    target = f"/exec/default/web/app?{STREAMS}"
    async with asyncio.timeout(LIMIT):
        head, body = await ask(backend, RequestHead("GET", target))
    assert (head.status, body) == (500, b"Upgrade request required\n")
    assert isinstance(runtime.requests[-1], cri_pb2.ExecRequest)


async def test_a_runtime_without_url(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    answer = await ask_upgraded(backend, f"/exec/default/web/app?{STREAMS}")
    assert answer == (500, "URL is not set")


async def test_a_command_that_is_no_text(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    answer = await ask_upgraded(backend, f"/exec/default/web/app?command=%ff&{STREAMS}")
    assert answer[0] == 500
    assert "string field contains invalid UTF-8" in answer[1]


async def test_names_that_are_no_text(backend: CriBackend, runtime: ScriptedRuntime) -> None:
    answer = await ask_upgraded(backend, f"/exec/default/%ff/app?{STREAMS}")
    assert answer == (404, "pod does not exist")


async def test_a_dead_runtime_is_named(backend: CriBackend) -> None:
    status, body = await ask_upgraded(backend, f"/exec/default/web/app?{STREAMS}")
    assert status == 500
    assert "can't be reached" in body
    assert "cri.sock" in body
