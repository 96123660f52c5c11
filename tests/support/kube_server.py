"""The API-server stand-in in this process, and a kubeconfig that leads to it."""

import contextlib
import json
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
        write_kubeconfig(self.directory, url)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self.server:
            await self.server.close()
        self.server = None

    def add_token(self, token: str) -> None:
        """One more that may do everything, from the next start on."""
        known = self.config.tokens[TOKEN]
        tokens = {**self.config.tokens, token: known}
        self.config = self.config.model_copy(update={"tokens": tokens})

    def show_token(self, token: str) -> None:
        """What the kubeconfig's user presents from now on."""
        (self.directory / "token").write_text(token)


def write_kubeconfig(directory: Path, url: str) -> Path:
    """A kubeconfig for the stand-in at that URL, in the directory that was prepared."""
    cluster = {"server": url, "certificate-authority": str(directory / "ca.crt")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "cloud", "user": {"tokenFile": str(directory / "token")}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "cloud"}}],
        "current-context": "lab",
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


def prepare(directory: Path, **fields: Any) -> dict[str, Any]:
    """Make the stand-in's keys there, and return its configuration with these fields in it."""
    directory.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.crt")
    leaf = ca.issue_cert("127.0.0.1")
    (directory / "server.crt").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(directory / "server.key")
    (directory / "token").write_text(TOKEN)
    pair = {"cert": str(directory / "server.crt"), "key": str(directory / "server.key")}
    tokens = {TOKEN: {"user": "cloud", "groups": ["system:masters"]}, **fields.pop("tokens", {})}
    return {
        "listen": "127.0.0.1:0",
        "tls": pair,
        "clientCA": str(directory / "ca.crt"),
        "kubelet": pair,
        "tokens": tokens,
        **fields,
    }


@contextlib.asynccontextmanager
async def kube_server(directory: Path, **fields: Any) -> AsyncIterator[KubeServer]:
    """The stand-in for the length of the block; ``fields`` go into its configuration."""
    config = Config.model_validate_json(json.dumps(prepare(directory, **fields)))
    running = KubeServer(config, World(config, []), directory)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def running_pod(name: str, node: str) -> dict[str, Any]:
    """A pod for the stand-in's configuration, in the namespace ``default``."""
    return {"metadata": {"name": name}, "spec": {"nodeName": node}}
