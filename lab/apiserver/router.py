"""Which handler answers a request."""

from urllib.parse import unquote

from lab.apiserver.call import TEXT_HEADERS, Call
from lab.apiserver.config import Config
from lab.apiserver.discovery import HEALTH_PATHS, describe
from lab.apiserver.ephemeral import serve_ephemeral
from lab.apiserver.identity import authorize, review_access, review_token
from lab.apiserver.kubelet import KubeletClient
from lab.apiserver.metrics import GROUP, MetricsServer
from lab.apiserver.nodeproxy import serve_node_proxy
from lab.apiserver.podlog import serve_log
from lab.apiserver.resources import parse_place, serve_resource
from lab.apiserver.status import method_not_allowed, no_such_path
from lab.apiserver.upgrade import SUBRESOURCES, serve_upgrade
from lab.apiserver.world import World

_REVIEWS = {
    "/apis/authentication.k8s.io/v1/tokenreviews": review_token,
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": review_access,
}


class Router:
    """Answers one call after the other; raises ApiError for what can't be answered."""

    def __init__(self, config: Config, world: World, kubelets: KubeletClient) -> None:
        self._config, self._world, self._kubelets = config, world, kubelets
        token = config.metrics_token
        self._metrics = MetricsServer(world, kubelets, token) if token else None

    async def answer(self, call: Call) -> None:
        """Check that the caller may, then let the right handler answer."""
        authorize(call.caller, call.head)
        path = call.head.path
        if path.startswith(HEALTH_PATHS):
            await call.connection.answer(200, TEXT_HEADERS, b"ok")
        elif path in _REVIEWS:
            if call.head.method != "POST":
                raise method_not_allowed()
            await call.answer_json(_REVIEWS[path](call.json(), self._config.tokens), 201)
        elif (document := describe(path, metrics=self._metrics is not None)) is not None:
            await call.answer_json(document)
        elif self._metrics and path.startswith(f"/apis/{GROUP}/"):
            await self._metrics.answer(call, _segments(path.removeprefix(f"/apis/{GROUP}/")))
        elif path.startswith("/api/v1/"):
            await self._answer_core(call, path.removeprefix("/api/v1/"))
        else:
            raise no_such_path()

    async def _answer_core(self, call: Call, path: str) -> None:
        segments = _segments(path)
        match segments:
            case ["nodes", name, "proxy", *_]:
                rest = path.split("/", 3)[3:]
                below = f"/{rest[0]}" if rest else "/"
                await serve_node_proxy(call, self._world, self._kubelets, name, below)
            case ["namespaces", namespace, "pods", name, "log"] if call.head.method == "GET":
                await serve_log(call, self._world, self._kubelets, namespace, name)
            case ["namespaces", namespace, "pods", name, "ephemeralcontainers"]:
                await serve_ephemeral(call, self._world, namespace, name)
            case ["namespaces", namespace, "pods", name, kind] if kind in SUBRESOURCES:
                if call.head.method not in ("GET", "POST"):
                    raise method_not_allowed()
                await serve_upgrade(call, self._world, self._kubelets, namespace, name, kind)
            case _:
                await serve_resource(call, self._world, parse_place(segments))


def _segments(path: str) -> list[str]:
    return [unquote(part) for part in path.split("/") if part]
