"""The admin address: what probes, Prometheus and people ask a running service.

Plain HTTP without any check of who asks; hence on the loopback, unless it is told otherwise.
"""

import asyncio
import logging
import socket
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamkit.service.health import Check, Verdict, run_checks
from streamkit.service.listener import listen

log = logging.getLogger(__name__)

_CLOSE_DEADLINE = 1.0
"""Seconds for an answer under way when the service ends."""


class AdminServer:
    """``/livez``, ``/healthz``, ``/readyz``, ``/readyz/<check>`` and ``/metrics`` on one address.

    ``/livez`` and ``/healthz`` say that the event loop turns; ``/readyz`` that no check has failed:
    200, else 503. It lists the checks where one is not ok, and with ``?verbose`` always;
    ``?exclude=<check>`` leaves one out.
    """

    def __init__(self, checks: Mapping[str, Check], registry: CollectorRegistry) -> None:
        self._checks = checks
        self._registry = registry
        self._socket: socket.socket | None = None

    def bind(self, host: str, port: int) -> None:
        """Take the port; 0 is any free one. Raises PortInUse where it can't be had."""
        self._socket = listen("admin port", host, port)

    @property
    def port(self) -> int:
        """The port that is listened on; 0 where there is none."""
        return int(self._socket.getsockname()[1]) if self._socket else 0

    async def serve(self) -> None:
        """Answer until cancelled, where a port was bound."""
        if self._socket is None:
            return
        app = web.Application()
        app.router.add_get("/livez", _live)
        app.router.add_get("/healthz", _live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/readyz/{check:.+}", self._ready_one)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_DEADLINE)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            log.info("health and metrics are at http://%s:%d", *self._socket.getsockname()[:2])
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()
            self.close()

    def close(self) -> None:
        """Give the port back. Idempotent."""
        if self._socket:
            self._socket.close()

    async def _ready(self, request: web.Request) -> web.Response:
        excluded = request.query.getall("exclude", [])
        report = await run_checks(self._checks, excluded=excluded)
        if report.is_plain and "verbose" not in request.query:
            return _text(HTTPStatus.OK, "ok")
        status = HTTPStatus.OK if report.is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return _text(status, report.lines("readyz"))

    async def _ready_one(self, request: web.Request) -> web.Response:
        check = self._checks.get(request.match_info["check"])
        if check is None:
            return _text(HTTPStatus.NOT_FOUND, f"the checks are {', '.join(self._checks)}\n")
        outcome = await check()
        failed = outcome.verdict is Verdict.FAILED
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        is_told = outcome.verdict is not Verdict.OK or "verbose" in request.query
        return _text(status, f"{outcome.sentence or 'ok'}\n" if is_told else "ok")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type}
        return web.Response(body=encode(self._registry), headers=headers)


async def _live(request: web.Request) -> web.Response:
    return _text(HTTPStatus.OK, "ok")


def _text(status: HTTPStatus, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"X-Content-Type-Options": "nosniff"})
