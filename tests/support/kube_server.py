"""The API-server stand-in in this process, and a kubeconfig that leads to it."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from cloudstream.kube.api import AsyncioKubeApi
from lab.apiserver.config import Config
from lab.apiserver.server import ApiServer
from lab.apiserver.world import World

TOKEN = "the-token"


@dataclass
class KubeServer:
    """A stand-in that a test may stop and start again at the same address."""

    config: Config
    world: World
    directory: Path
    server: ApiServer | None = None

    @property
    def kube_config(self) -> str:
        """The kubeconfig's path. Its token is in a file beside it, ``token``."""
        return str(self.directory / "kubeconfig")

    def api(self, *, deadline: float = 5) -> AsyncioKubeApi:
        """A client, for the caller to close."""
        return AsyncioKubeApi(master="", kube_config=self.kube_config, deadline=deadline)

    async def start(self) -> None:
        self.server = ApiServer(self.config, self.world)
        url = await self.server.start()
        self.config = self.config.model_copy(update={"listen": url.removeprefix("https://")})
        self._write_kubeconfig(url)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self.server:
            await self.server.close()
        self.server = None

    def show_token(self, token: str) -> None:
        """What the kubeconfig's user presents from now on."""
        (self.directory / "token").write_text(token)

    def _write_kubeconfig(self, url: str) -> None:
        cluster = {"server": url, "certificate-authority": str(self.directory / "ca.crt")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "cloud", "user": {"tokenFile": str(self.directory / "token")}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "cloud"}}],
            "current-context": "lab",
        }
        Path(self.kube_config).write_text(json.dumps(document))


@contextlib.asynccontextmanager
async def kube_server(directory: Path, **fields: Any) -> AsyncIterator[KubeServer]:
    """The stand-in for the length of the block; ``fields`` go into its configuration."""
    os.makedirs(directory, exist_ok=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.crt")
    leaf = ca.issue_cert("127.0.0.1")
    (directory / "server.crt").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(directory / "server.key")
    pair = {"cert": str(directory / "server.crt"), "key": str(directory / "server.key")}
    tokens = {TOKEN: {"user": "cloud", "groups": ["system:masters"]}, **fields.pop("tokens", {})}
    given = {
        "listen": "127.0.0.1:0",
        "tls": pair,
        "clientCA": str(directory / "ca.crt"),
        "kubelet": pair,
        "tokens": tokens,
        **fields,
    }
    config = Config.model_validate_json(json.dumps(given))
    running = KubeServer(config, World(config, []), directory)
    running.show_token(TOKEN)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def running_pod(name: str, node: str) -> dict[str, Any]:
    """A pod for the stand-in's configuration, in the namespace ``default``."""
    return {"metadata": {"name": name}, "spec": {"nodeName": node}}
