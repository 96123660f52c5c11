"""Which route answers a request, and what a kubelet says where none does."""

import html
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from edgestream.answers import PLAIN_TEXT, UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.query import BAD_ESCAPE
from streamkit.wire.exchange import Headers, RequestHead
from streamkit.wire.go_url import escape_path

Parameters = Mapping[str, str]
RouteHandler = Callable[[Exchange, Parameters], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One root of the kubelet's paths.

    ``shapes`` are the names of the segments that may follow the root, each way to have them being
    one tuple; a last name that begins with ``*`` stands for all segments that are left, one at
    least. ``methods`` are those allowed, none meaning any.
    """

    root: str
    shapes: tuple[tuple[str, ...], ...]
    methods: tuple[str, ...]
    handler: RouteHandler
    exact: bool = False
    directory: bool = False


def page_not_found() -> KubeletAnswer:
    """The answer for a path that nobody registered."""
    return KubeletAnswer(404, "404 page not found\n", headers=UNSNIFFED_TEXT)


def path_does_not_fit() -> KubeletAnswer:
    """The answer for a path below a root that has no such page."""
    return KubeletAnswer(404, "404: Page Not Found")


def moved(request: RequestHead, path: str) -> KubeletAnswer:
    """The answer that sends a caller on to that path, with the same query."""
    query = f"?{request.query}" if request.query else ""
    location = escape_path(path) + query
    headers: Headers = (("Location", location),)
    if request.method not in ("GET", "HEAD"):
        return KubeletAnswer(301, "", headers=headers)
    body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'
    return KubeletAnswer(
        301, body, headers=(("Content-Type", "text/html; charset=utf-8"), *headers)
    )


class Router:
    """Finds the route of a request, by its path first and then by its method."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.root: route for route in routes}

    async def serve(self, exchange: Exchange) -> None:
        """Answer by the request's route. Raises a KubeletAnswer where there is none."""
        handler, parameters = self.find(exchange.request)
        await handler(exchange, parameters)

    def find(self, request: RequestHead) -> tuple[RouteHandler, Parameters]:
        """The route's handler and its path parameters, decoded.

        The path is decoded before it is split, as Go does it, so an escaped slash splits as well.
        """
        if not request.path.startswith("/") or BAD_ESCAPE.search(request.path):
            raise KubeletAnswer(400, "400 Bad Request")
        path = unquote_to_bytes(request.path).decode(errors="replace")
        if (clean := _clean(path)) != path:
            raise moved(request, clean)
        root, *segments = path.strip("/").split("/")
        route = self._routes.get(root)
        if route is None:
            raise page_not_found()
        named = next(
            (fit for shape in route.shapes if (fit := _fit(shape, segments)) is not None), None
        )
        has_slash = path.endswith("/")
        if route.directory and not segments and not has_slash:
            raise moved(request, f"/{root}/")
        if route.exact and (named is None or has_slash):
            raise page_not_found()
        if named is None:
            raise path_does_not_fit()
        if route.methods and request.method not in route.methods:
            allow = ("Allow", ", ".join(route.methods))
            raise KubeletAnswer(405, "405: Method Not Allowed", headers=(*PLAIN_TEXT, allow))
        return route.handler, named


def _fit(shape: Sequence[str], segments: Sequence[str]) -> Parameters | None:
    """The segments by the names that the shape gives them; None if they are not of that shape."""
    if shape and shape[-1].startswith("*") and len(segments) >= len(shape):
        *names, rest = shape
        left = "/".join(segments[len(names) :])
        return {**dict(zip(names, segments, strict=False)), rest[1:]: left}
    if len(shape) != len(segments):
        return None
    pairs = list(zip(shape, segments, strict=True))
    if any(name.startswith("=") and name[1:] != segment for name, segment in pairs):
        return None
    return {name: segment for name, segment in pairs if not name.startswith("=")}


def _clean(path: str) -> str:
    """The path without empty, ``.`` and ``..`` segments; a slash at its end is kept."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return f"/{'/'.join(kept)}{'/' if kept and path.endswith('/') else ''}"
