"""The runtime's streaming server: exec, attach and port-forward behind a one-time URL."""

import asyncio
import ipaddress
from contextlib import closing
from urllib.parse import urlsplit

from edgestream.answers import UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.backend_connection import BackendConnection
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.relay import relay_answer, relay_upgrade
from streamkit.errors import IncompleteAnswer, StreamingDialFailed
from streamkit.wire import pod_facts
from streamkit.wire.exchange import RequestHead, ResponseHead, without_headers

REFUSAL_DEADLINE = 10.0
"""Seconds that passing on a refusal may take, as in the kubelet."""

_NOT_PASSED_ON = ("host", "content-length", "transfer-encoding", pod_facts.HEADER.lower())


async def stream(exchange: Exchange, url: str, *, dial_deadline: float, outputs: int = 0) -> None:
    """Put the caller's upgrade request to that URL and relay what follows.

    The URL holds a token that works once, so it is dialled once, now. ``dial_deadline`` is the
    time in seconds until the server has answered the request's head, ``outputs`` the number of a
    command's output streams. Cancelling drops the server's
    connection. Raises a KubeletAnswer where the kubelet refuses, StreamingDialFailed for a URL that
    leads off this host, IncompleteAnswer where the stream breaks.
    """
    if not url:
        raise KubeletAnswer(500, "URL is not set")
    require_upgrade(exchange.request)
    address, port, target = _local_target(url)
    headers = without_headers(exchange.request.headers, _NOT_PASSED_ON)
    request = RequestHead(exchange.request.method, target, headers)
    try:
        connection = await BackendConnection.dial(address, port, deadline=dial_deadline)
    except StreamingDialFailed as error:
        raise _http_error(f"error dialing backend: {error}") from error
    with closing(connection):
        head = await _put(connection, request, dial_deadline)
        if head.status == 101:
            await relay_upgrade(exchange, connection, head, outputs=outputs)
        elif head.status < 400:
            raise _http_error(f"invalid upgrade response: status code {head.status}")
        else:
            await _refuse(exchange, connection, head)


def require_upgrade(request: RequestHead) -> None:
    """Raise the KubeletAnswer for a request that asks for no upgrade."""
    if not request.is_upgrade:
        raise _http_error("Upgrade request required")


async def _put(
    connection: BackendConnection, request: RequestHead, deadline: float
) -> ResponseHead:
    try:
        async with asyncio.timeout(deadline):
            await connection.send_head(request)
            return await connection.response_head()
    except StreamingDialFailed as error:
        raise _http_error(str(error)) from error
    except TimeoutError as error:
        raise StreamingDialFailed(
            f"the container runtime's streaming server did not answer within {deadline:g} s"
        ) from error


async def _refuse(exchange: Exchange, connection: BackendConnection, head: ResponseHead) -> None:
    try:
        async with asyncio.timeout(REFUSAL_DEADLINE):
            await relay_answer(exchange, connection, head)
    except TimeoutError as error:
        raise IncompleteAnswer(
            f"the streaming server's refusal took longer than {REFUSAL_DEADLINE:g} s"
        ) from error


def _local_target(url: str) -> tuple[str, int, str]:
    """Address, port and request target of a streaming URL on this host's loopback."""
    try:
        parts = urlsplit(url)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        address = ipaddress.ip_address(host)
        port = parts.port or 80
    except ValueError:
        address, port = None, 0
    if address is None or not address.is_loopback or parts.scheme not in ("http", ""):
        raise StreamingDialFailed(
            "the container runtime streams neither by plain HTTP nor on the loopback",
            hint="set stream_server_address to 127.0.0.1 in containerd's CRI plugin, without TLS",
        )
    path = parts.path or "/"
    return str(address), port, f"{path}?{parts.query}" if parts.query else path


def _http_error(sentence: str) -> KubeletAnswer:
    return KubeletAnswer(500, f"{sentence}\n", headers=UNSNIFFED_TEXT)
