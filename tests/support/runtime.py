"""A container runtime that says what a test tells it to say."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from edgestream.cri import cri_pb2

_NAME = "io.kubernetes.pod.name"
_NAMESPACE = "io.kubernetes.pod.namespace"
_UID = "io.kubernetes.pod.uid"

_SERVICES = {
    "runtime.v1.RuntimeService": (
        "Version",
        "ListPodSandbox",
        "ListContainers",
        "PodSandboxStatus",
        "ContainerStatus",
        "ListContainerStats",
        "ExecSync",
        "Exec",
        "Attach",
        "PortForward",
        "CheckpointContainer",
    ),
    "runtime.v1.ImageService": ("ImageFsInfo",),
}

Context = grpc.aio.ServicerContext[Any, Any]


def sandbox(
    sandbox_id: str,
    *,
    created_at: int,
    pod: str = "web",
    uid: str = "u1",
    ready: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> cri_pb2.PodSandbox:
    """A sandbox in the namespace ``default``."""
    return cri_pb2.PodSandbox(
        id=sandbox_id,
        created_at=created_at,
        state=cri_pb2.SANDBOX_READY if ready else cri_pb2.SANDBOX_NOTREADY,
        metadata=cri_pb2.PodSandboxMetadata(name=pod, namespace="default", uid=uid),
        labels={_NAME: pod, _NAMESPACE: "default", _UID: uid},
        annotations=annotations or {},
    )


def container(
    container_id: str,
    *,
    created_at: int,
    state: cri_pb2.ContainerState = cri_pb2.CONTAINER_RUNNING,
    name: str = "app",
    pod: str = "web",
    uid: str = "u1",
    sandbox_id: str = "s1",
    restart_count: int = 0,
) -> cri_pb2.Container:
    """A container of a pod in the namespace ``default``."""
    return cri_pb2.Container(
        id=container_id,
        pod_sandbox_id=sandbox_id,
        image=cri_pb2.ImageSpec(image=f"registry.example/{name}:1"),
        created_at=created_at,
        state=state,
        metadata=cri_pb2.ContainerMetadata(name=name, attempt=restart_count),
        labels={
            _NAME: pod,
            _NAMESPACE: "default",
            _UID: uid,
            "io.kubernetes.container.name": name,
        },
        annotations={"io.kubernetes.container.restartCount": str(restart_count)},
    )


class ScriptedRuntime:
    """Answers the calls of the agent from lists that a test fills; ``requests`` records them
    and ``called`` is set at the first.

    ``refusals`` maps a method's name to the code and details it fails with; a method named in
    ``stalled`` never answers.
    """

    def __init__(self) -> None:
        self.sandboxes: list[cri_pb2.PodSandbox] = []
        self.containers: list[cri_pb2.Container] = []
        self.statuses: dict[str, cri_pb2.ContainerStatusResponse] = {}
        self.sandbox_statuses: dict[str, cri_pb2.PodSandboxStatusResponse] = {}
        self.stats: list[cri_pb2.ContainerStats] = []
        self.image_filesystems: list[cri_pb2.FilesystemUsage] = []
        self.executed = cri_pb2.ExecSyncResponse()
        self.streaming_url = ""
        self.refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.stalled: set[str] = set()
        self.requests: list[Any] = []
        self.called = asyncio.Event()

    async def _begin(self, method: str, request: object, context: Context) -> None:
        self.requests.append(request)
        self.called.set()
        if method in self.stalled:
            await asyncio.Event().wait()
        if method in self.refusals:
            await context.abort(*self.refusals[method])

    async def Version(
        self, request: cri_pb2.VersionRequest, context: Context
    ) -> cri_pb2.VersionResponse:
        await self._begin("Version", request, context)
        return cri_pb2.VersionResponse(version="0.1.0", runtime_name="scripted")

    async def ListPodSandbox(
        self, request: cri_pb2.ListPodSandboxRequest, context: Context
    ) -> cri_pb2.ListPodSandboxResponse:
        await self._begin("ListPodSandbox", request, context)
        wanted = request.filter.label_selector.items()
        found = [box for box in self.sandboxes if wanted <= box.labels.items()]
        return cri_pb2.ListPodSandboxResponse(items=found)

    async def ListContainers(
        self, request: cri_pb2.ListContainersRequest, context: Context
    ) -> cri_pb2.ListContainersResponse:
        await self._begin("ListContainers", request, context)
        wanted = request.filter.label_selector.items()
        found = [item for item in self.containers if wanted <= item.labels.items()]
        return cri_pb2.ListContainersResponse(containers=found)

    async def ContainerStatus(
        self, request: cri_pb2.ContainerStatusRequest, context: Context
    ) -> cri_pb2.ContainerStatusResponse:
        await self._begin("ContainerStatus", request, context)
        if request.container_id not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.container_id}")
        return self.statuses[request.container_id]

    async def PodSandboxStatus(
        self, request: cri_pb2.PodSandboxStatusRequest, context: Context
    ) -> cri_pb2.PodSandboxStatusResponse:
        await self._begin("PodSandboxStatus", request, context)
        if request.pod_sandbox_id not in self.sandbox_statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.pod_sandbox_id}")
        return self.sandbox_statuses[request.pod_sandbox_id]

    async def ListContainerStats(
        self, request: cri_pb2.ListContainerStatsRequest, context: Context
    ) -> cri_pb2.ListContainerStatsResponse:
        await self._begin("ListContainerStats", request, context)
        return cri_pb2.ListContainerStatsResponse(stats=self.stats)

    async def ImageFsInfo(
        self, request: cri_pb2.ImageFsInfoRequest, context: Context
    ) -> cri_pb2.ImageFsInfoResponse:
        await self._begin("ImageFsInfo", request, context)
        return cri_pb2.ImageFsInfoResponse(image_filesystems=self.image_filesystems)

    async def ExecSync(
        self, request: cri_pb2.ExecSyncRequest, context: Context
    ) -> cri_pb2.ExecSyncResponse:
        await self._begin("ExecSync", request, context)
        return self.executed

    async def CheckpointContainer(
        self, request: cri_pb2.CheckpointContainerRequest, context: Context
    ) -> cri_pb2.CheckpointContainerResponse:
        await self._begin("CheckpointContainer", request, context)
        return cri_pb2.CheckpointContainerResponse()

    async def Exec(self, request: cri_pb2.ExecRequest, context: Context) -> cri_pb2.ExecResponse:
        await self._begin("Exec", request, context)
        return cri_pb2.ExecResponse(url=self.streaming_url)

    async def Attach(
        self, request: cri_pb2.AttachRequest, context: Context
    ) -> cri_pb2.AttachResponse:
        await self._begin("Attach", request, context)
        return cri_pb2.AttachResponse(url=self.streaming_url)

    async def PortForward(
        self, request: cri_pb2.PortForwardRequest, context: Context
    ) -> cri_pb2.PortForwardResponse:
        await self._begin("PortForward", request, context)
        return cri_pb2.PortForwardResponse(url=self.streaming_url)


@asynccontextmanager
async def serving(runtime: ScriptedRuntime, socket: Path) -> AsyncIterator[None]:
    """Serve on that unix socket for as long as the context lasts."""
    server = grpc.aio.server()
    for service, methods in _SERVICES.items():
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(
                getattr(runtime, method),
                request_deserializer=getattr(cri_pb2, f"{method}Request").FromString,
                response_serializer=getattr(cri_pb2, f"{method}Response").SerializeToString,
            )
            for method in methods
        }
        generic = grpc.method_handlers_generic_handler(service, handlers)
        server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)
