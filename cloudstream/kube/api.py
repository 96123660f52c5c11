"""The seam to the Kubernetes API, and ``kubernetes_asyncio`` behind it.

Objects pass as the plain JSON that the API speaks: the few fields that are wanted need no models.
"""

import asyncio
import contextlib
import json
import logging
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from urllib.parse import quote

from streamkit.errors import ConfigInvalid, LookupFailed
from streamkit.service.tally import status_label

log = logging.getLogger(__name__)

JsonObject = dict[str, Any]

JSON = "application/json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_OF_NO_USE = (401, 500, 502, 503, 504)
"""Statuses that say nothing of what was asked: the API knows us not, or does not work."""
_RENEWAL_PAUSE = 2.0
"""Seconds for which credentials are kept before a refusal makes us load them again.

It comes on top of the pauses between attempts, so that it delays how soon fresh ones are found."""
_WATCH_GRACE = 10.0
"""Seconds beyond its announced end after which a watch counts as dead."""


class ApiRefused(LookupFailed):
    """The API answered with an error status."""

    def __init__(self, status: int, what: str, message: str = "") -> None:
        told = f": {message}" if message else ""
        super().__init__(f"the Kubernetes API answered {status} to {what}{told}")
        self.status = status


class KubeApi(Protocol):
    """What there is to ask of the API; every call ends within a deadline of the client's."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
    ) -> JsonObject:
        """The JSON object that the API answers with.

        Raises ApiRefused where the status is none of success, LookupFailed where there is no
        usable answer.
        """

    def watch(
        self, path: str, query: Mapping[str, str], *, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[JsonObject]]:
        """The events of a watch, which the API ends after so many seconds.

        Entering means that the API has agreed to the watch. Raises as ``request`` does, also
        between the events.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


def api_path(*segments: str) -> str:
    """The path of those segments, each quoted.

    Raises ValueError for a segment that can't be a name, and would lead to another place.
    """
    if not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError(f"{segments} is no path of the Kubernetes API")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class AsyncioKubeApi:
    """The API that the pod's service account or a kubeconfig points to.

    The library reads a service account's token again each minute. Whatever else expires is noticed
    when the API refuses it: everything is then loaded anew, and the request repeated once.
    ``kubernetes_asyncio`` is large; it is imported at first use, in a thread.
    """

    def __init__(self, *, master: str, kube_config: str, deadline: float) -> None:
        self._master = master
        self._kube_config = kube_config
        self._deadline = deadline
        self._client: Any = None
        self._retired: Any = None
        self._loaded_at = 0.0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """How many requests have ended, by verb and by status ("unreachable": without one)."""
        self.trouble = ""
        """Why the API does not serve us at all; empty while it does."""
        self._lock = asyncio.Lock()

    @staticmethod
    def is_configured(*, master: str, kube_config: str) -> bool:
        """Whether there is anything to connect to."""
        return bool(master or kube_config or os.environ.get("KUBERNETES_SERVICE_HOST"))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
    ) -> JsonObject:
        what = f"{method} {path}"
        with self._counted(method), _readable_errors(what):
            async with asyncio.timeout(self._deadline):
                answer = await self._send(method, path, query or {}, body, content_type)
                async with answer:
                    return _object(answer.status, await answer.read(), what)

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, seconds: int
    ) -> AsyncIterator[AsyncIterator[JsonObject]]:
        what = f"the watch of {path}"
        query = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        end = asyncio.get_running_loop().time() + seconds + _WATCH_GRACE
        with self._counted("WATCH"):
            with _readable_errors(what):
                async with asyncio.timeout(self._deadline):
                    answer = await self._send("GET", path, query, None, JSON)
                    if answer.status != 200:
                        async with answer:
                            _object(answer.status, await answer.read(), what)
            self.trouble = ""
            async with answer, contextlib.aclosing(_events(answer, what, end)) as events:
                yield events

    async def close(self) -> None:
        async with self._lock:
            for client in (self._client, self._retired):
                if client is not None:
                    await client.close()
            self._client = self._retired = None

    @contextlib.contextmanager
    def _counted(self, verb: str) -> Iterator[None]:
        try:
            yield
        except ApiRefused as error:
            self.outcomes[verb, status_label(error.status)] += 1
            self.trouble = str(error) if error.status in _OF_NO_USE else ""
            raise
        except LookupFailed as error:
            self.outcomes[verb, "unreachable"] += 1
            self.trouble = str(error)
            raise
        self.outcomes[verb, "200"] += 1
        self.trouble = ""

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: JsonObject | None,
        content_type: str,
    ) -> Any:
        """The library's raw answer, whatever its status, from credentials that are still good."""
        renewed = False
        while True:
            client = await self._connected()
            headers = {"Accept": JSON, "Content-Type": content_type}
            try:
                answer = await client.call_api(
                    path,
                    method,
                    query_params=list(query.items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                )
            except ssl.SSLError:
                if renewed or not await self._renew(client):
                    raise
            else:
                if answer.status != 401 or renewed or not await self._renew(client):
                    return answer
                answer.release()
            renewed = True

    async def _connected(self) -> Any:
        async with self._lock:
            if self._client is None:
                self._client = await self._load()
            return self._client

    async def _renew(self, refused: Any) -> bool:
        """Load everything again. False: that has been done only just now."""
        async with self._lock:
            if self._client is not refused:
                return True
            if time.monotonic() - self._loaded_at < _RENEWAL_PAUSE:
                return False
            client = await self._load()
            # What is under way through the old client may still end well.
            if self._retired is not None:
                await self._retired.close()
            self._retired, self._client = self._client, client
            log.info("loaded the credentials for the Kubernetes API again, for it refused them")
            return True

    async def _load(self) -> Any:
        loader: Any = await asyncio.to_thread(_library)
        self._loaded_at = time.monotonic()
        settings = loader.client.Configuration()
        config = loader.config
        try:
            if self._kube_config:
                await config.load_kube_config(self._kube_config, client_configuration=settings)
            elif not self._master:
                config.load_incluster_config(client_configuration=settings)
            if self._master:
                settings.host = self._master
            return loader.client.ApiClient(settings)
        except (config.ConfigException, OSError, ValueError, LookupError, TypeError) as error:
            where = self._kube_config or "the in-cluster service account"
            raise ConfigInvalid(f"kubeAPIConfig: {where} can't be used: {error}") from error


def _library() -> Any:
    import kubernetes_asyncio.client
    import kubernetes_asyncio.config

    return kubernetes_asyncio


@contextlib.contextmanager
def _readable_errors(what: str) -> Iterator[None]:
    """Whatever breaks off an exchange with the API becomes a LookupFailed."""
    from aiohttp import ClientError

    try:
        yield
    except TimeoutError as error:
        raise LookupFailed(f"the Kubernetes API did not answer {what} in time") from error
    except ConfigInvalid as error:
        raise LookupFailed(str(error)) from error
    except (OSError, ClientError, ValueError) as error:
        raise LookupFailed(f"the Kubernetes API can't be reached: {error}") from error


async def _events(answer: Any, what: str, end: float) -> AsyncGenerator[JsonObject, None]:
    with _readable_errors(what):
        while True:
            async with asyncio.timeout_at(end):
                line = await answer.content.readline()
            if not line:
                return
            yield _object(200, line, what)


def _object(status: int, body: bytes, what: str) -> JsonObject:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not 200 <= status < 300:
        message = document.get("message") if isinstance(document, dict) else None
        raise ApiRefused(status, what, message if isinstance(message, str) else "")
    if not isinstance(document, dict):
        raise LookupFailed(f"the Kubernetes API answered {what} with no JSON object")
    return document
