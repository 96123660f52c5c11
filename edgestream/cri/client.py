"""Calls to a container runtime's CRI socket, their errors in our own terms."""

import os
import stat
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import grpc
import grpc.aio

from edgestream.answers import PLAIN_TEXT, KubeletAnswer
from edgestream.cri import cri_pb2, cri_pb2_grpc
from streamkit.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from edgestream.cri.cri_pb2_grpc import ImageServiceAsyncStub, RuntimeServiceAsyncStub

MAX_MESSAGE = 16 << 20
"""Bytes of one answer, the kubelet's limit; gRPC's own of 4 MiB is too small for a full node."""

RECONNECT_INTERVAL_MS = 100
"""The pause between two attempts to reach a dead runtime; calls fail at once meanwhile."""

MEASURE_DEADLINE = 8.0
"""Seconds for one look at what everything uses, which takes a full node a while; metrics-server
waits ten."""

_OPTIONS = (
    # Without it the escaped path of the socket becomes the authority, which servers may refuse.
    ("grpc.default_authority", "localhost"),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # gRPC's own back-off grows to two minutes, and a runtime that is back would still look dead.
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_INTERVAL_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_INTERVAL_MS),
)

_NO_SUCH_SERVICE = "unknown service runtime.v1."
"""What containerd, and every other server in Go, says where CRI is switched off or another one."""

_Reply = TypeVar("_Reply")


class _Connection(NamedTuple):
    channel: grpc.aio.Channel
    runtime: "RuntimeServiceAsyncStub"
    images: "ImageServiceAsyncStub"


class CriClient:
    """A client of one runtime.

    ``endpoint`` is the socket, as ``unix:///run/containerd/containerd.sock`` or as a bare path;
    ``call_deadline`` the seconds that one call may take. The connection is made by the first call,
    and anew after the runtime was away.

    Every call raises ``RuntimeUnavailable``, at once, where the runtime can't be reached, and after
    the deadline where it does not answer; a ``KubeletAnswer`` where it answers with an error.
    Cancelling a call is safe.
    """

    def __init__(self, endpoint: str, *, call_deadline: float) -> None:
        self.socket_path = endpoint.removeprefix("unix://")
        self._call_deadline = call_deadline
        self._connection: _Connection | None = None

    async def version(self) -> cri_pb2.VersionResponse:
        """The runtime's name and versions; also the cheapest sign of life."""
        request = cri_pb2.VersionRequest()
        return await self._answer(self._runtime.Version(request, timeout=self._call_deadline))

    async def sandboxes(self, labels: Mapping[str, str]) -> Sequence[cri_pb2.PodSandbox]:
        """The sandboxes, in any state, that bear all these labels."""
        request = cri_pb2.ListPodSandboxRequest(
            filter=cri_pb2.PodSandboxFilter(label_selector=labels)
        )
        call = self._runtime.ListPodSandbox(request, timeout=self._call_deadline)
        return (await self._answer(call)).items

    async def containers(self, labels: Mapping[str, str]) -> Sequence[cri_pb2.Container]:
        """The containers, in any state, that bear all these labels."""
        request = cri_pb2.ListContainersRequest(
            filter=cri_pb2.ContainerFilter(label_selector=labels)
        )
        call = self._runtime.ListContainers(request, timeout=self._call_deadline)
        return (await self._answer(call)).containers

    async def sandbox_status(
        self, sandbox_id: str, *, verbose: bool = False
    ) -> cri_pb2.PodSandboxStatusResponse:
        """What the runtime knows about a sandbox; ``verbose`` fills ``info``."""
        request = cri_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=verbose)
        call = self._runtime.PodSandboxStatus(request, timeout=self._call_deadline)
        return await self._answer(call)

    async def container_status(
        self, container_id: str, *, verbose: bool = False
    ) -> cri_pb2.ContainerStatusResponse:
        """What the runtime knows about a container; ``verbose`` fills ``info``."""
        request = cri_pb2.ContainerStatusRequest(container_id=container_id, verbose=verbose)
        call = self._runtime.ContainerStatus(request, timeout=self._call_deadline)
        return await self._answer(call)

    async def exec_url(self, request: cri_pb2.ExecRequest) -> str:
        """Where to stream a command from: a URL that works once, within a minute."""
        return (await self._answer(self._runtime.Exec(request, timeout=self._call_deadline))).url

    async def attach_url(self, request: cri_pb2.AttachRequest) -> str:
        """Where to stream a container's own process from, as for ``exec_url``."""
        return (await self._answer(self._runtime.Attach(request, timeout=self._call_deadline))).url

    async def port_forward_url(self, request: cri_pb2.PortForwardRequest) -> str:
        """Where to stream a sandbox's ports from, as for ``exec_url``."""
        call = self._runtime.PortForward(request, timeout=self._call_deadline)
        return (await self._answer(call)).url

    async def exec_sync(
        self, container_id: str, command: Sequence[str], *, deadline: float
    ) -> cri_pb2.ExecSyncResponse:
        """Run a command to its end, within ``deadline`` seconds, and return all its output."""
        request = cri_pb2.ExecSyncRequest(container_id=container_id, cmd=command)
        return await self._answer(self._runtime.ExecSync(request, timeout=deadline), deadline)

    async def checkpoint(self, container_id: str, location: str, *, deadline: float) -> None:
        """Write a container's state to the archive ``location``, within ``deadline`` seconds."""
        request = cri_pb2.CheckpointContainerRequest(
            container_id=container_id, location=location, timeout=int(deadline)
        )
        call = self._runtime.CheckpointContainer(request, timeout=deadline)
        await self._answer(call, deadline)

    async def container_stats(self) -> Sequence[cri_pb2.ContainerStats]:
        """What all containers use; one that can't be measured makes some runtimes fail here."""
        request = cri_pb2.ListContainerStatsRequest()
        call = self._runtime.ListContainerStats(request, timeout=MEASURE_DEADLINE)
        return (await self._answer(call, MEASURE_DEADLINE)).stats

    async def image_filesystems(self) -> Sequence[cri_pb2.FilesystemUsage]:
        """What images take up, in one filesystem or several."""
        request = cri_pb2.ImageFsInfoRequest()
        call = self._images.ImageFsInfo(request, timeout=MEASURE_DEADLINE)
        return (await self._answer(call, MEASURE_DEADLINE)).image_filesystems

    async def close(self) -> None:
        """Drop the connection; calls under way are cancelled. Idempotent."""
        connection, self._connection = self._connection, None
        if connection:
            await connection.channel.close()

    @property
    def _runtime(self) -> "RuntimeServiceAsyncStub":
        return self._connected().runtime

    @property
    def _images(self) -> "ImageServiceAsyncStub":
        return self._connected().images

    def _connected(self) -> "_Connection":
        if self._connection is None:  # made here because a channel belongs to the running loop
            channel = grpc.aio.insecure_channel(f"unix:{self.socket_path}", options=_OPTIONS)
            runtime = cri_pb2_grpc.RuntimeServiceStub(channel)
            images = cri_pb2_grpc.ImageServiceStub(channel)
            self._connection = _Connection(
                channel,
                cast("RuntimeServiceAsyncStub", runtime),
                cast("ImageServiceAsyncStub", images),
            )
        return self._connection

    async def _answer(self, call: Awaitable[_Reply], deadline: float | None = None) -> _Reply:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE:
                raise RuntimeUnavailable(
                    f"the container runtime can't be reached on {self.socket_path}: "
                    f"{_obstacle(self.socket_path)}"
                ) from error
            if code is grpc.StatusCode.UNIMPLEMENTED and details.startswith(_NO_SUCH_SERVICE):
                raise RuntimeUnavailable(
                    f"{self.socket_path} does not speak CRI v1 ({details})",
                    hint="containerd: see that its configuration does not disable the plugin cri",
                ) from error
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise RuntimeUnavailable(
                    f"the container runtime on {self.socket_path} did not answer"
                    f" within {deadline or self._call_deadline:g} s"
                ) from error
            raise runtime_answer(code, details) from error


def _obstacle(path: str) -> str:
    """Why there is no connection to a socket, as far as its file tells."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.strerror or "it can't be looked at"
    if not stat.S_ISSOCK(mode):
        return "it is no socket"
    if not os.access(path, os.R_OK | os.W_OK):
        return "this process may not open it"
    return "nobody answers there"


def runtime_answer(code: grpc.StatusCode, details: str) -> KubeletAnswer:
    """What a kubelet answers when the runtime refuses with that code."""
    name = "".join(word.title() for word in code.name.split("_"))
    body = f"rpc error: code = {'Canceled' if name == 'Cancelled' else name} desc = {details}"
    if code is grpc.StatusCode.NOT_FOUND:
        return KubeletAnswer(404, body)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return KubeletAnswer(429, body, headers=(*PLAIN_TEXT, ("Retry-After", "60")))
    return KubeletAnswer(500, body)
