"""exec, attach and port-forward: find the kubelet port, pass the upgrade on, then carry bytes.

After the kubelet's 101 nothing is looked at. When either side closes, the other is closed too.
"""

import asyncio
from urllib.parse import quote_plus

from lab.apiserver.call import Call, container_named, forwarded_headers
from lab.apiserver.http1 import BODY_LIMIT, READ_SIZE
from lab.apiserver.kubelet import KubeletClient, KubeletPort
from lab.apiserver.kubeletwire import KubeletConnection, KubeletFailure
from lab.apiserver.status import ApiError, bad_request, plain_error
from lab.apiserver.world import World
from streamkit.http.headers import end_to_end
from streamkit.wire.exchange import RequestHead, ResponseHead, header_values

SUBRESOURCES = ("exec", "attach", "portforward")
REFUSAL_TIMEOUT = 30.0
"""Seconds for the body of a refused upgrade to come in."""

_FEATURE = "ExtendWebSocketsToKubelet"
_STREAM_FLAGS = {"error": "stderr", "input": "stdin", "output": "stdout", "tty": "tty"}


async def serve_upgrade(
    call: Call, world: World, kubelets: KubeletClient, namespace: str, name: str, kind: str
) -> None:
    """Answer a pod's ``kind``, one of ``SUBRESOURCES``; returns when the session is over.

    Raises ApiError as long as nothing has been passed on.
    """
    pod = await world.get_pod(namespace, name)
    if kind == "portforward":
        target = f"/portForward/{namespace}/{name}"
        query = [("port", value) for key, value in call.query if key == "ports"]
    else:
        container = container_named(pod, call.option("container"))
        target = f"/{kind}/{namespace}/{name}/{container}"
        query = _stream_query(call)
    if not (node_name := pod["spec"].get("nodeName")):
        raise bad_request(f"pod {name} does not have a host assigned")
    port = world.kubelet_port(node_name, resource="pods")
    if not call.head.is_upgrade:
        raise bad_request("Upgrade request required")
    if _needs_translation(call) and not world.declares(node_name, _FEATURE):
        raise ApiError(403, "Forbidden", "WebSocket sessions are not translated here: use SPDY")
    if query:
        target += "?" + "&".join(f"{key}={quote_plus(value)}" for key, value in query)
    await pass_upgrade(call, kubelets, port, target)


async def pass_upgrade(call: Call, kubelets: KubeletClient, port: KubeletPort, target: str) -> None:
    """Send the client's upgrade to the kubelet port and carry the session, or the refusal.

    Raises ApiError if the kubelet can't be reached or does not answer in HTTP.
    """
    headers = forwarded_headers(call, keep_upgrade=True)
    try:
        connection, answer = await kubelets.open_upgrade(
            port, RequestHead(call.head.method, target, headers)
        )
    except KubeletFailure as failure:
        prefix = "error dialing backend: " if failure.dialing else ""
        raise plain_error(f"{prefix}{failure}") from failure
    try:
        if answer.status == 101:
            await _carry(call, connection)
        elif answer.status < 400:
            raise plain_error(f"invalid upgrade response: status code {answer.status}")
        else:
            await _pass_refusal(call, connection, answer)
    finally:
        connection.close()


async def _pass_refusal(call: Call, connection: KubeletConnection, answer: ResponseHead) -> None:
    body = bytearray()
    try:
        async with asyncio.timeout(REFUSAL_TIMEOUT):
            async for chunk in connection.chunks():
                body += chunk
                if len(body) > BODY_LIMIT:
                    break
    except (KubeletFailure, TimeoutError):
        pass  # the client gets what there is
    kept = [pair for pair in end_to_end(answer.headers) if pair[0].lower() != "content-length"]
    await call.connection.answer(answer.status, (*kept, ("Connection", "close")), bytes(body))


async def _carry(call: Call, connection: KubeletConnection) -> None:
    """Carry bytes both ways until either side closes or breaks."""
    reader, writer, early = await call.connection.take_over()
    writer.write(connection.raw_answer())
    if early:
        connection.writer.write(early)
    pumps = (
        asyncio.create_task(_pump(reader, connection.writer)),
        asyncio.create_task(_pump(connection.reader, writer)),
    )
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_SIZE):
        writer.write(data)
        await writer.drain()


def _stream_query(call: Call) -> list[tuple[str, str]]:
    """The kubelet's query by name; the command keeps its order."""
    command = [("command", value) for key, value in call.query if key == "command"]
    flags = [(name, "1") for name, asked in _STREAM_FLAGS.items() if call.flag(asked)]
    return sorted(command + flags, key=lambda pair: pair[0])


def _needs_translation(call: Call) -> bool:
    """Whether this is a WebSocket of the kinds that an API server ends and turns into SPDY."""
    upgrades = [value.lower() for value in header_values(call.head.headers, "upgrade")]
    offered = [
        protocol.strip()
        for value in header_values(call.head.headers, "sec-websocket-protocol")
        for protocol in value.split(",")
    ]
    return "websocket" in upgrades and any(
        protocol == "v5.channel.k8s.io" or protocol.startswith("SPDY/3.1+") for protocol in offered
    )
