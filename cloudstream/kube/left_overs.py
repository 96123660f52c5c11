"""Finds entries of the port record whose cloud services are gone for good.

KubeEdge takes an entry out when a pod of CloudCore is deleted, if somebody watches at that moment;
else it stays, and every pod with a new address takes a higher port. What is left over here is what
several signs agree on: CloudCore's pods are known and we are in one of them, none of them has the
entry's address, and for some minutes nothing has accepted a connection at its stream port.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator

from cloudstream.kube.api import JsonObject, KubeApi, api_path
from cloudstream.kube.port_record import NAMESPACE, same_spelling
from streamkit.errors import LookupFailed

_PODS = api_path("api", "v1", "namespaces", NAMESPACE, "pods")
_CLOUDCORE = {"labelSelector": "kubeedge=cloudcore"}
_SILENCE = 180.0
"""Seconds for which an address has to be silent: a host restarts in less."""
_CONNECT = 3.0
"""Seconds for a connection to be accepted."""
_ENDED = ("Succeeded", "Failed")


class LeftOvers:
    """Remembers since when addresses are silent. ``stream_port`` is that of all cloud services."""

    def __init__(self, api: KubeApi, *, stream_port: int) -> None:
        self._api = api
        self._stream_port = stream_port
        self._silent_since: dict[str, float] = {}

    async def among(self, addresses: Collection[str], *, own: str) -> set[str]:
        """Those of other cloud services' addresses that are left over; none where it is unclear.

        It takes several calls over some minutes to find one. Raises LookupFailed.
        """
        alive = await self._pod_addresses() if addresses else set()
        if own not in alive:
            self._silent_since.clear()
            return set()
        doubtful = [each for each in addresses if same_spelling(each) not in alive]
        answers = await asyncio.gather(*map(self._answers, doubtful))
        now = time.monotonic()
        self._silent_since = {
            each: self._silent_since.get(each, now)
            for each, is_there in zip(doubtful, answers, strict=True)
            if not is_there
        }
        return {each for each, since in self._silent_since.items() if now - since >= _SILENCE}

    async def _pod_addresses(self) -> set[str]:
        answer = await self._api.request("GET", _PODS, query=_CLOUDCORE)
        items = answer.get("items")
        if not isinstance(items, list):
            raise LookupFailed("the Kubernetes API listed no pods of CloudCore")
        return {same_spelling(each) for item in items for each in _addresses(item)}

    async def _answers(self, address: str) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT):
                _, writer = await asyncio.open_connection(address, self._stream_port)
            writer.close()
            return True
        return False


def _addresses(pod: JsonObject) -> Iterator[str]:
    """A pod's own addresses, and its host's."""
    status = pod.get("status")
    if not isinstance(status, dict) or status.get("phase") in _ENDED:
        return
    for one, several in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
        listed = status.get(several) or ()
        yield from (str(each.get("ip")) for each in listed if isinstance(each, dict))
        if status.get(one):
            yield str(status[one])
