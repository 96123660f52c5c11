import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from edgestream.cri import cri_pb2
from streamkit.wire.exchange import header_values
from tests.support.node import ScriptedNode
from tests.support.trees import APP_ID, POD_UID
from tests.unit.edgestream.kubelet.pages import Pages, pages_of

APP = "default/web/app"


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode(tmp_path, cgroups=1)


@pytest.fixture
async def pages(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        yield pages


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("?cmd=ls+-l%20/tmp", ["ls", "-l", "/tmp"]),
        ("?cmd=a++b", ["a", "", "b"]),
        ("?cmd='a+b'", ["'a", "b'"]),
        ("?cmd=a&cmd=b", ["a"]),
        ("", [""]),
    ],
)
async def test_a_command(node: ScriptedNode, pages: Pages, query: str, command: list[str]) -> None:
    node.runtime.executed = cri_pb2.ExecSyncResponse(stdout=b"out\n\xff", stderr=b"err\n")
    for target in (f"/run/{APP}", f"/run/default/web/{POD_UID}/app"):
        head, body = await pages.ask(f"{target}{query}", "POST")
        assert (head.status, body) == (200, b"out\n\xfferr\n")
        assert header_values(head.headers, "content-type") == ["application/json"]
        asked = node.runtime.requests[-1]
        assert (asked.container_id, list(asked.cmd), asked.timeout) == (APP_ID, command, 0)


async def test_a_silent_command(pages: Pages) -> None:
    head, body = await pages.ask(f"/run/{APP}?cmd=true", "POST")
    assert (head.status, body) == (200, b"")
    assert header_values(head.headers, "content-type") == []


async def test_a_command_that_fails(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.executed = cri_pb2.ExecSyncResponse(stdout=b"lost", stderr=b"no\n", exit_code=2)
    head, body = await pages.ask(f"/run/{APP}?cmd=a+b", "POST")
    assert (head.status, body) == (500, b"command 'a b' exited with 2: no\n")


async def test_a_runtime_that_refuses(node: ScriptedNode, pages: Pages) -> None:
    node.runtime.refusals["ExecSync"] = grpc.StatusCode.NOT_FOUND, "no container"
    head, body = await pages.ask(f"/run/{APP}?cmd=a", "POST")
    assert (head.status, body) == (500, b"rpc error: code = NotFound desc = no container")


async def test_a_checkpoint(node: ScriptedNode, pages: Pages, tmp_path: Path) -> None:
    document = await pages.ask(f"/checkpoint/{APP}", "POST")
    asked = node.runtime.requests[-1]
    assert isinstance(asked, cri_pb2.CheckpointContainerRequest)
    assert (asked.container_id, asked.timeout) == (APP_ID, 120)
    name = r"checkpoint-web_default-app-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)\.tar"
    directory = re.escape(str(tmp_path / "kubelet" / "checkpoints"))
    assert re.fullmatch(f"{directory}/{name}", asked.location)
    assert document[1].decode() == f'{{"items":["{asked.location}"]}}'
    assert header_values(document[0].headers, "content-type") == ["application/json"]


@pytest.mark.parametrize(
    ("query", "timeout"),
    [("timeout=7", 7), ("timeout=x&timeout=+8", 8), ("timeout=0", 120), ("timeout=99999", 14400)],
)
async def test_a_checkpoints_timeout(
    node: ScriptedNode, pages: Pages, query: str, timeout: int
) -> None:
    head, _ = await pages.ask(f"/checkpoint/{APP}?{query.replace('+', '%2B')}", "POST")
    assert head.status == 200
    assert node.runtime.requests[-1].timeout == timeout


async def test_a_runtime_that_can_not(node: ScriptedNode, pages: Pages) -> None:
    words = "method CheckpointContainer not implemented"
    node.runtime.refusals["CheckpointContainer"] = grpc.StatusCode.UNIMPLEMENTED, words
    head, body = await pages.ask(f"/checkpoint/{APP}", "POST")
    assert (head.status, body.decode()) == (
        500,
        f"checkpointing of default/web/app failed (rpc error: code = Unimplemented desc = {words})",
    )


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/run/default/nope/app", 404, "pod does not exist"),
        ("/run/default/web/nope", 500, 'container not found ("nope")'),
        ("/run/default/web/done", 500, 'container not found ("done")'),
        ("/run/default/web", 404, "404: Page Not Found"),
        ("/checkpoint/default/nope/app", 404, "pod does not exist"),
        ("/checkpoint/default/web/nope", 404, "container nope does not exist"),
        (
            "/checkpoint/default/web/done",
            500,
            "checkpointing of default/web/done failed (container done not found)",
        ),
        (
            "/checkpoint/default/web/app?timeout=x",
            404,
            "cannot parse value of timeout parameter",
        ),
        (
            "/checkpoint/default/web/app?timeout=-1",
            500,
            (
                "checkpointing of default/web/app failed"
                " (CheckpointContainer requires the timeout value to be > 0)"
            ),
        ),
        ("/checkpoint/default/web/uid/app", 404, "404: Page Not Found"),
    ],
)
async def test_refusals(
    node: ScriptedNode, pages: Pages, target: str, status: int, body: str
) -> None:
    done = cri_pb2.Container(state=cri_pb2.CONTAINER_EXITED)
    done.labels.update(node.runtime.containers[0].labels)
    done.labels["io.kubernetes.container.name"] = "done"
    node.runtime.containers.append(done)
    head, text = await pages.ask(target, "POST")
    assert (head.status, text.decode()) == (status, body)


@pytest.mark.parametrize("route", ["run", "checkpoint"])
async def test_only_a_post_does_something(node: ScriptedNode, pages: Pages, route: str) -> None:
    head, body = await pages.ask(f"/{route}/{APP}?cmd=true")
    assert (head.status, body) == (405, b"405: Method Not Allowed")
    assert header_values(head.headers, "allow") == ["POST"]
    assert node.runtime.requests == []


async def test_a_checkpoints_answer_is_json(pages: Pages) -> None:
    head, _ = await pages.ask(f"/checkpoint/{APP}", "POST", (("Accept", "text/html"),))
    assert head.status == 406
