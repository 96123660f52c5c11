"""Each route of a kubelet: its paths, its methods, its uid, and what it says to others."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgestream.answers import PLAIN_TEXT, UNSNIFFED_TEXT
from streamkit.wire.exchange import Headers, header_values
from tests.support.node import ScriptedNode
from tests.support.trees import POD_UID
from tests.unit.edgestream.kubelet.pages import Pages, pages_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
APP, APP_OF_UID = "default/web/app", f"default/web/{POD_UID}/app"
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))
NOT_THERE = "404 page not found\n"
DOES_NOT_FIT = "404: Page Not Found"


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    node = ScriptedNode(tmp_path, cgroups=1)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "syslog").write_text("text\n")
    (node.pod_logs / "app").mkdir(parents=True)
    (node.pod_logs / "app" / "0.log").write_text("2024-05-01T10:00:00.1Z stdout F one\n")
    return node


@pytest.fixture
async def pages(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[Pages]:
    async with pages_of(node, tmp_path / "cri.sock") as pages:
        yield pages


@dataclass(frozen=True, slots=True)
class Allowed:
    """A path, the methods that it takes, and the status that these get here; none is any."""

    path: str
    methods: tuple[str, ...]
    status: int = 200


# A runtime without a streaming server refuses with 500 whatever has got as far as that.
ROUTES = (
    Allowed(f"/containerLogs/{APP}", ("GET",)),
    Allowed(f"/exec/{APP}?output=1", ("GET", "POST"), 500),
    Allowed(f"/exec/{APP_OF_UID}?output=1", ("GET", "POST"), 500),
    Allowed("/exec/default/web/u9/app?output=1", ("GET", "POST"), 500),
    Allowed(f"/attach/{APP}?output=1", ("GET", "POST"), 500),
    Allowed(f"/attach/{APP_OF_UID}?output=1", ("GET", "POST"), 500),
    Allowed("/portForward/default/web", ("GET", "POST"), 500),
    Allowed(f"/portForward/default/web/{POD_UID}", ("GET", "POST"), 500),
    Allowed(f"/run/{APP}", ("POST",)),
    Allowed(f"/run/{APP_OF_UID}", ("POST",)),
    Allowed("/run/default/web/u9/app", ("POST",)),
    Allowed(f"/checkpoint/{APP}", ("POST",)),
    Allowed("/pods", ("GET",)),
    Allowed("/pods/", ("GET",)),
    Allowed("/runningpods/", ("GET",)),
    Allowed("/stats/summary", ("GET", "POST")),
    Allowed("/logs/", ("GET",)),
    Allowed("/logs/syslog", ("GET",)),
    Allowed("/healthz", ()),
    Allowed("/healthz/ping", ()),
    Allowed("/healthz/log", ()),
    Allowed("/healthz/syncloop", ()),
    Allowed("/metrics", ()),
    Allowed("/metrics/cadvisor", ()),
    Allowed("/metrics/resource", ()),
    Allowed("/metrics/probes", ()),
    Allowed("/metrics/slis", ()),
    Allowed("/configz", ()),
    Allowed("/debug/pprof/", (), 405),
    Allowed("/debug/pprof/profile", (), 405),
    Allowed("/debug/flags/v", (), 405),
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_methods(pages: Pages, route: Allowed) -> None:
    for method in METHODS:
        head, body = await pages.ask(route.path, method, UPGRADE)
        if not route.methods or method in route.methods:
            assert head.status == route.status, (method, body)
            assert header_values(head.headers, "allow") == []
            continue
        text = b"" if method == "HEAD" else b"405: Method Not Allowed"
        allow = ("Allow", ", ".join(route.methods))
        assert (head.status, body) == (405, text), method
        assert head.headers[:-1] == (*PLAIN_TEXT, allow)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", NOT_THERE),
        ("/containerlogs/default/web/app", NOT_THERE),
        ("/portforward/default/web", NOT_THERE),
        ("/spec", NOT_THERE),
        ("/statusz", NOT_THERE),
        ("/debug", NOT_THERE),
        ("/debug/flags/v/", NOT_THERE),
        ("/debug/vars", NOT_THERE),
        ("/healthz/", NOT_THERE),
        ("/healthz/unknown", NOT_THERE),
        ("/healthz/ping/more", NOT_THERE),
        ("/metrics/", NOT_THERE),
        ("/metrics/unknown", NOT_THERE),
        ("/configz/", NOT_THERE),
        ("/configz/more", NOT_THERE),
        ("/containerLogs", DOES_NOT_FIT),
        ("/containerLogs/default/web", DOES_NOT_FIT),
        (f"/containerLogs/{APP_OF_UID}", DOES_NOT_FIT),
        ("/exec/default/web", DOES_NOT_FIT),
        (f"/exec/{APP_OF_UID}/more", DOES_NOT_FIT),
        ("/attach/default/web", DOES_NOT_FIT),
        ("/portForward/default", DOES_NOT_FIT),
        (f"/portForward/{APP_OF_UID}", DOES_NOT_FIT),
        ("/run/default/web", DOES_NOT_FIT),
        (f"/checkpoint/{APP_OF_UID}", DOES_NOT_FIT),
        ("/pods/default", DOES_NOT_FIT),
        ("/runningpods/default", DOES_NOT_FIT),
        ("/stats", DOES_NOT_FIT),
        ("/stats/container", DOES_NOT_FIT),
        ("/stats/default/web/uid/app", DOES_NOT_FIT),
    ],
)
async def test_paths_that_are_no_page(pages: Pages, path: str, body: str) -> None:
    for method in ("GET", "POST", "PUT"):
        head, text = await pages.ask(path, method)
        assert (head.status, text.decode()) == (404, body)
        kind = UNSNIFFED_TEXT if body == NOT_THERE else PLAIN_TEXT
        assert head.headers[:-1] == kind


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/runningpods", "/runningpods/"),
        ("/logs", "/logs/"),
        ("/debug/pprof", "/debug/pprof/"),
        ("/exec//default/web/app", "/exec/default/web/app"),
        ("/logs/../pods", "/pods"),
    ],
)
async def test_paths_that_are_moved(pages: Pages, path: str, location: str) -> None:
    for method in ("GET", "POST"):
        head, _ = await pages.ask(f"{path}?a=1", method)
        assert head.status == 301
        assert header_values(head.headers, "location") == [f"{location}?a=1"]


STREAMS = "you must specify at least 1 of stdin, stdout, stderr"
WEBSOCKET: Headers = (("Connection", "Upgrade"), ("Upgrade", "websocket"))


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        # What is missing or wrong in the query is told before a pod is looked for.
        ("POST", "/exec/default/nope/app", 400, STREAMS),
        ("POST", "/exec/default/nope/app?input=true&tty=1", 400, STREAMS),
        ("POST", "/attach/default/nope/app?stdout=1", 400, STREAMS),
        ("GET", "/portForward/default/nope", 400, 'query parameter "port" is required'),
        ("GET", "/containerLogs/default/nope/app?tailLines=", 400,
         '{"message": "Unable to decode query."}'),
        ("GET", "/containerLogs/default/nope/app?limitBytes=0", 422,
         '{"message": "Invalid request."}'),
        # Then the pod.
        ("GET", "/containerLogs/default/nope/app", 404, 'pod "nope" does not exist'),
        ("GET", "/containerLogs/other/web/app", 404, 'pod "web" does not exist'),
        ("POST", "/exec/default/nope/app?output=1", 404, "pod does not exist"),
        ("POST", "/attach/default/nope/app?output=1", 404, "pod does not exist"),
        ("POST", "/portForward/default/nope?port=80", 404, "pod does not exist"),
        ("POST", "/run/default/nope/app", 404, "pod does not exist"),
        ("POST", "/checkpoint/default/nope/app?timeout=x", 404, "pod does not exist"),
        # Then the container; a uid counts where it is looked at.
        ("POST", "/exec/default/web/nope?output=1", 500, 'container not found ("nope")'),
        ("POST", "/exec/default/web/u9/nope?output=1", 500, 'container not found ("nope")'),
        ("POST", "/run/default/web/nope", 500, 'container not found ("nope")'),
        ("POST", "/attach/default/web/nope?output=1", 500,
         "container nope not found in pod web_default"),
        ("POST", "/attach/default/web/u9/app?output=1", 500, "pod web_default not found"),
        ("POST", "/portForward/default/web/u9?port=80", 404, "pod not found"),
        ("POST", "/checkpoint/default/web/nope?timeout=x", 404, "container nope does not exist"),
        ("POST", "/checkpoint/default/web/app?timeout=x", 404,
         "cannot parse value of timeout parameter"),
        # The runtime was asked, and has no streaming server.
        ("POST", "/exec/default/web/u9/app?output=1", 500, "URL is not set"),
    ],
)  # fmt: skip
async def test_the_order_of_checks(
    pages: Pages, method: str, path: str, status: int, body: str
) -> None:
    head, text = await pages.ask(path, method, WEBSOCKET)
    assert (head.status, text.decode()) == (status, body)
    assert head.headers[:-1] == PLAIN_TEXT


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/debug/pprof/", "profiling endpoint is disabled.\n"),
        ("/debug/pprof/heap?debug=1", "profiling endpoint is disabled.\n"),
        ("/debug/flags/v", "flags endpoint is disabled.\n"),
    ],
)
async def test_what_is_disabled(pages: Pages, path: str, body: str) -> None:
    head, text = await pages.ask(path, "PUT")
    assert (head.status, text.decode()) == (405, body)
    assert head.headers[:-1] == UNSNIFFED_TEXT


@pytest.mark.parametrize("path", ["/pods", "/runningpods/", "/stats/summary", f"/checkpoint/{APP}"])
async def test_documents_are_json_or_nothing(pages: Pages, path: str) -> None:
    method = "POST" if path.startswith("/checkpoint") else "GET"
    for accept in ("*/*", "application/json", "text/html, application/json;q=0.5"):
        head, _ = await pages.ask(path, method, (("Accept", accept),))
        assert head.status == 200
        assert header_values(head.headers, "content-type") == ["application/json"]
    head, body = await pages.ask(path, method, (("Accept", "text/html"),))
    assert (head.status, body) == (
        406,
        b"406: Not Acceptable\n\nAvailable representations: application/json",
    )
