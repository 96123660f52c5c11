"""The Kubernetes API, as far as routing needs it: which node runs a pod."""

import asyncio
import json
import logging
import os
import time
from collections import OrderedDict
from typing import Any, Protocol

from streamkit.errors import ConfigInvalid, LookupFailed, PodNotFound, PodNotScheduled

log = logging.getLogger(__name__)

_CACHE_SIZE = 10_000
_FRESH = 10.0
"""Seconds for which a pod's node is taken from memory. A node that does not know the pod, or that
is not connected, makes the next request ask again at once."""


class KubeApi(Protocol):
    """The seam to the Kubernetes API."""

    async def pod_node(self, namespace: str, name: str) -> str:
        """The pod's ``spec.nodeName``, empty while it has none.

        Raises PodNotFound, or LookupFailed where the API does not answer.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


class PodDirectory:
    """Where pods run: bounded memory in front of the API."""

    def __init__(self, api: KubeApi, *, deadline: float) -> None:
        self._api = api
        self._deadline = deadline
        self._known: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    async def node_of(self, namespace: str, name: str) -> str:
        """The name of the pod's node.

        While the API is away, what was known last is still used. Raises PodNotFound,
        PodNotScheduled or LookupFailed.
        """
        key = (namespace, name)
        known = self._known.get(key)
        if known and time.monotonic() - known[0] < _FRESH:
            return known[1]
        try:
            async with asyncio.timeout(self._deadline):
                node_name = await self._api.pod_node(namespace, name)
        except (LookupFailed, TimeoutError) as error:
            if known:
                log.warning("the Kubernetes API is away, pod %s/%s from memory", namespace, name)
                return known[1]
            if isinstance(error, LookupFailed):
                raise
            raise LookupFailed("the Kubernetes API did not answer in time") from error
        if not node_name:
            raise PodNotScheduled(f'pod "{name}" in namespace "{namespace}" has no node yet')
        self._known[key] = (time.monotonic(), node_name)
        self._known.move_to_end(key)
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
        return node_name

    def doubt(self, namespace: str, name: str) -> None:
        """What is known of the pod may be old: ask again next time, but keep it for an outage."""
        if known := self._known.get((namespace, name)):
            self._known[(namespace, name)] = (float("-inf"), known[1])

    async def close(self) -> None:
        """Close the API client."""
        await self._api.close()


class AsyncioKubeApi:
    """``kubernetes_asyncio`` behind the seam. Imported at first use: it is large."""

    def __init__(self, *, master: str, kube_config: str, deadline: float) -> None:
        self._master = master
        self._kube_config = kube_config
        self._deadline = deadline
        self._client: Any = None
        self._lock = asyncio.Lock()

    @staticmethod
    def is_configured(*, master: str, kube_config: str) -> bool:
        """Whether there is anything to connect to."""
        return bool(master or kube_config or os.environ.get("KUBERNETES_SERVICE_HOST"))

    async def pod_node(self, namespace: str, name: str) -> str:
        from aiohttp import ClientError
        from kubernetes_asyncio import client

        api: Any = client.CoreV1Api(await self._connected())
        try:
            answer = await api.read_namespaced_pod(
                name, namespace, _preload_content=False, _request_timeout=self._deadline
            )
            body = await answer.read()
        except client.ApiException as error:
            if error.status == 404:
                raise _pod_not_found(namespace, name) from error
            raise LookupFailed(f"the Kubernetes API answered {error.status}") from error
        except (OSError, TimeoutError, ClientError) as error:
            raise LookupFailed(f"the Kubernetes API can't be reached: {error}") from error
        if answer.status == 404:
            raise _pod_not_found(namespace, name)
        if answer.status != 200:
            raise LookupFailed(f"the Kubernetes API answered {answer.status}")
        try:
            return str(json.loads(body)["spec"].get("nodeName") or "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LookupFailed("the Kubernetes API answered no Pod") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connected(self) -> Any:
        async with self._lock:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:
        from kubernetes_asyncio import client
        from kubernetes_asyncio import config as loader

        config: Any = loader
        settings = client.Configuration()
        try:
            if self._kube_config:
                await config.load_kube_config(self._kube_config, client_configuration=settings)
            elif not self._master:
                config.load_incluster_config(client_configuration=settings)
        except (config.ConfigException, OSError, KeyError, TypeError) as error:
            where = self._kube_config or "the in-cluster service account"
            raise ConfigInvalid(f"kubeAPIConfig: {where} can't be used: {error}") from error
        if self._master:
            settings.host = self._master
        return client.ApiClient(settings)


def _pod_not_found(namespace: str, name: str) -> PodNotFound:
    return PodNotFound(f'pod "{name}" does not exist in namespace "{namespace}"')
