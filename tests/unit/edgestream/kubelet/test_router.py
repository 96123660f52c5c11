import pytest

from edgestream.answers import PLAIN_TEXT, UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.router import Parameters, Route, Router
from streamkit.wire.exchange import Headers, RequestHead
from tests.support.exchange import MemoryExchange


async def logs(exchange: Exchange, parameters: Parameters) -> None:
    await exchange.write(f"logs {dict(parameters)}".encode())


async def execute(exchange: Exchange, parameters: Parameters) -> None:
    raise NotImplementedError


async def health(exchange: Exchange, parameters: Parameters) -> None:
    raise NotImplementedError


POD = ("namespace", "pod")
ROUTER = Router(
    [
        Route("containerLogs", ((*POD, "container"),), ("GET",), logs),
        Route("exec", ((*POD, "container"), (*POD, "uid", "container")), ("GET", "POST"), execute),
        Route("healthz", ((), ("check",)), (), health, exact=True),
        Route("stats", (("=summary",),), ("GET",), logs),
        Route("runningpods", ((),), ("GET",), logs, directory=True),
        Route("logs", ((), ("*path",)), ("GET",), logs),
        Route("debug", (("kind", "*rest"),), (), health),
    ]
)


@pytest.mark.parametrize(
    ("method", "target", "handler", "parameters"),
    [
        ("GET", "/containerLogs/ns/p/c?follow=true", logs, ("ns", "p", "c")),
        ("GET", "/containerLogs/ns/p/c/", logs, ("ns", "p", "c")),
        ("GET", "/containerLogs/n%73/p%20q/%C3%A9", logs, ("ns", "p q", "é")),
        ("GET", "/containerLogs/ns%2Fp/c", logs, ("ns", "p", "c")),
        ("GET", "/containerLogs/ns/p/%ff", logs, ("ns", "p", "\ufffd")),
        ("POST", "/exec/ns/p/c?command=a/b//..", execute, ("ns", "p", "c")),
        ("GET", "/exec/ns/p/u/c", execute, ("ns", "p", "u", "c")),
        ("PUT", "/healthz", health, ()),
        ("GET", "/healthz/ping?verbose", health, ("ping",)),
        ("GET", "/stats/summary", logs, ()),
        ("GET", "/stats/summary/", logs, ()),
        ("GET", "/runningpods/", logs, ()),
        ("GET", "/logs/", logs, ()),
        ("GET", "/logs/a", logs, ("a",)),
        ("GET", "/logs/a/b%2Fc/", logs, ("a/b/c",)),
        ("GET", "/debug/a/b", health, ("a", "b")),
        ("GET", "/debug/a/b/c", health, ("a", "b/c")),
    ],
)
def test_finds(method: str, target: str, handler: object, parameters: tuple[str, ...]) -> None:
    found, named = ROUTER.find(RequestHead(method, target))
    assert found is handler
    assert tuple(named.values()) == parameters


def test_names_the_uid() -> None:
    _, named = ROUTER.find(RequestHead("GET", "/exec/ns/p/u/c"))
    assert named == {"namespace": "ns", "pod": "p", "uid": "u", "container": "c"}


def allow(methods: str) -> Headers:
    return (*PLAIN_TEXT, ("Allow", methods))


@pytest.mark.parametrize(
    ("method", "target", "status", "body", "headers"),
    [
        ("GET", "/", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/foo", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/execute/ns/p/c", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/exec", 404, "404: Page Not Found", PLAIN_TEXT),
        ("GET", "/exec/ns/p", 404, "404: Page Not Found", PLAIN_TEXT),
        ("GET", "/stats", 404, "404: Page Not Found", PLAIN_TEXT),
        ("PUT", "/stats/other", 404, "404: Page Not Found", PLAIN_TEXT),
        ("PUT", "/runningpods/a", 404, "404: Page Not Found", PLAIN_TEXT),
        ("GET", "/healthz/", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/healthz/ping/", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/healthz/a/b", 404, "404 page not found\n", UNSNIFFED_TEXT),
        ("GET", "/debug/a", 404, "404: Page Not Found", PLAIN_TEXT),
        ("GET", "/containerLogs/ns/p/u/c", 404, "404: Page Not Found", PLAIN_TEXT),
        ("POST", "/containerLogs/ns/p/c", 405, "405: Method Not Allowed", allow("GET")),
        ("HEAD", "/exec/ns/p/c", 405, "405: Method Not Allowed", allow("GET, POST")),
        ("GET", "/exec/%zz", 400, "400 Bad Request", PLAIN_TEXT),
        ("OPTIONS", "*", 400, "400 Bad Request", PLAIN_TEXT),
    ],
)
def test_refuses(method: str, target: str, status: int, body: str, headers: Headers) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        ROUTER.find(RequestHead(method, target))
    answer = caught.value
    assert (answer.status, answer.body, answer.headers) == (status, body, headers)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/exec//ns/p/c", "/exec/ns/p/c"),
        ("//exec/ns/p/c?a=1&b", "/exec/ns/p/c?a=1&b"),
        ("/exec/../containerLogs/ns/p/c", "/containerLogs/ns/p/c"),
        ("/exec/./ns/p/c/", "/exec/ns/p/c/"),
        ("/exec/%2e%2e/%C3%A9/", "/%C3%A9/"),
        ("/..", "/"),
        ("/runningpods?a=1&b", "/runningpods/?a=1&b"),
    ],
)
def test_unclean_paths_are_moved(target: str, location: str) -> None:
    with pytest.raises(KubeletAnswer) as caught:
        ROUTER.find(RequestHead("GET", target))
    assert caught.value.status == 301
    assert dict(caught.value.headers)["Location"] == location
    quoted = location.replace("&", "&amp;")
    assert caught.value.body == f'<a href="{quoted}">Moved Permanently</a>.\n\n'
    with pytest.raises(KubeletAnswer) as caught:
        ROUTER.find(RequestHead("POST", target))
    assert (caught.value.headers, caught.value.body) == ((("Location", location),), "")


async def test_serves_by_the_route() -> None:
    exchange = MemoryExchange(RequestHead("GET", "/nope"))
    with pytest.raises(KubeletAnswer):
        await ROUTER.serve(exchange)
    assert not exchange.has_head
