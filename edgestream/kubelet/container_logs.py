"""``/containerLogs``: what a container has written, and goes on to write."""

import time
from contextlib import aclosing

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import CONTAINER_RUNNING
from edgestream.cri.log_target import find_log
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.pod_of import pod_of
from edgestream.kubelet.router import Parameters
from edgestream.logs.options import parse_log_query
from edgestream.logs.reader import LogReader
from edgestream.logs.watch import LogWatcher
from streamkit.errors import RuntimeUnavailable
from streamkit.wire.exchange import ResponseHead


class ContainerLogs:
    """The route. Followers share the one ``watcher``, whose owner closes it."""

    def __init__(self, client: CriClient, watcher: LogWatcher) -> None:
        self._client = client
        self._watcher = watcher

    async def read(self, exchange: Exchange, parameters: Parameters) -> None:
        """Send a container's log: the query, the pod, the container and the file are checked first.

        The head goes out as soon as the file is open, since callers wait for it even where the
        container is silent. It has no Content-Type, as a kubelet's has none.
        """
        options = parse_log_query(exchange.request.query, now_ns=time.time_ns())
        pod = await pod_of(self._client, exchange.request, parameters)
        if not pod.is_known:
            raise KubeletAnswer(404, f'pod "{pod.name}" does not exist')
        target = await find_log(
            self._client, pod, parameters["container"], previous=options.previous
        )
        reader = await LogReader.open(
            target.log_path,
            options,
            state=_RuntimeState(self._client, target.container_id),
            watcher=self._watcher,
        )
        try:
            await exchange.send_head(ResponseHead(200))
            async with aclosing(reader.chunks()) as chunks:
                async for chunk in chunks:
                    await exchange.write(chunk)
        finally:
            await reader.close()
        await exchange.end()


class _RuntimeState:
    """A container's state as the runtime tells it; while the runtime is away, it runs."""

    def __init__(self, client: CriClient, container_id: str) -> None:
        self._client = client
        self._container_id = container_id

    async def is_running(self) -> bool:
        try:
            answer = await self._client.container_status(self._container_id)
        except RuntimeUnavailable:
            return True
        return answer.status.state == CONTAINER_RUNNING
