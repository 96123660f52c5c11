"""The cloud service in this process, on free ports, with certificates of its own."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudstream.config import CloudConfig, CloudSettings
from cloudstream.service import CloudService
from streamkit.pki.issue import issue_all
from streamkit.service.config import TlsFiles

NODE = "edge-1"


@dataclass(frozen=True)
class Cloud:
    """A running cloud service and the keys to it."""

    service: CloudService
    pki: Path
    task: asyncio.Task[None]
    """The service's own; cancelling it stops the service."""

    @property
    def stream_port(self) -> int:
        return self.service.stream_listener.port

    @property
    def tunnel_port(self) -> int:
        return self.service.tunnel_listener.port

    def files(self, stem: str) -> TlsFiles:
        return tls_files(self.pki, stem)

    def client_context(self, stem: str | None) -> ssl.SSLContext:
        """For a client of either port: ``apiserver-client``, ``edge-...``, or no certificate."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        if stem:
            context.load_cert_chain(self.pki / f"{stem}.crt", self.pki / f"{stem}.key")
        return context

    async def connect(
        self, stem: str | None = "apiserver-client", address: tuple[str, int] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the stream port, or to that address, as an API server makes it."""
        host, port = address or ("127.0.0.1", self.stream_port)
        async with asyncio.timeout(10):
            return await asyncio.open_connection(
                host, port, ssl=self.client_context(stem), server_hostname="localhost"
            )


def tls_files(pki: Path, stem: str) -> TlsFiles:
    return TlsFiles(ca=pki / "ca.crt", cert=pki / f"{stem}.crt", key=pki / f"{stem}.key")


@contextlib.asynccontextmanager
async def running_cloud(
    pki: Path,
    settings: CloudSettings | None = None,
    *,
    kube_config: str = "",
    has_admin: bool = False,
    tunnel_port: int = 0,
    stream_port: int = 0,
    nodes: Sequence[str] = (NODE, "edge-2"),
) -> AsyncIterator[Cloud]:
    """Serve for the length of the block."""
    issue_all(pki, nodes=nodes)
    settings = settings or CloudSettings(bind_address="127.0.0.1")
    admin = {"admin_address": "127.0.0.1:0" if has_admin else ""}
    service = CloudService(
        CloudConfig(
            stream_port=stream_port,
            tunnel_port=tunnel_port,
            stream_tls=tls_files(pki, "stream"),
            tunnel_tls=tls_files(pki, "tunnel"),
            kubelet_port=10350,
            kube_master="",
            kube_config=kube_config,
            settings=settings.model_copy(update=admin),
        )
    )
    task = asyncio.create_task(service.run())
    try:
        yield Cloud(service, pki, task)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await task
