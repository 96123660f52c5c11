"""A stand-in for the services under test: kubelet requests answered by a CRI, bytes relayed."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.containerd import Cri
from tests.unit.lab.apiserver_kit import LIMIT, Exchange, Script


def cri_script(cri: Cri) -> Script:
    """Answer exec, attach and port-forward through the runtime's streaming server."""

    async def answer(exchange: Exchange) -> None:
        url = await asyncio.to_thread(_streaming_url, cri, exchange.target)
        await _relay(exchange, url)

    return answer


def _streaming_url(cri: Cri, target: str) -> str:
    parts = urlsplit(target)
    kind, namespace, pod, *container = parts.path.strip("/").split("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    labels = {"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": pod}
    call: Callable[..., Any] = cri
    if kind == "portForward":
        found = call("ListPodSandbox", filter={"label_selector": labels}).items
        return str(call("PortForward", pod_sandbox_id=found[0].id).url)
    labels["io.kubernetes.container.name"] = container[0]
    found = call("ListContainers", filter={"label_selector": labels}).containers
    streams = {
        name: "1" in query.get(key, ())
        for name, key in {"stdin": "input", "stdout": "output", "stderr": "error"}.items()
    }
    fields = {"container_id": found[0].id, "tty": "1" in query.get("tty", ()), **streams}
    if kind == "attach":
        return str(call("Attach", **fields).url)
    return str(call("Exec", cmd=query["command"], **fields).url)


async def _relay(exchange: Exchange, url: str) -> None:
    """Send the request's own head to the streaming server, then carry bytes both ways."""
    parts = urlsplit(url)
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    method = exchange.first_line.split(" ")[0]
    lines = [f"{method} {parts.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in exchange.headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    pumps = [
        asyncio.create_task(_pump(exchange.reader, writer)),
        asyncio.create_task(_pump(reader, exchange.writer)),
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        writer.close()
        exchange.writer.close()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
