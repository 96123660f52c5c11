"""A node made up of files and a scripted runtime."""

import json
from collections.abc import Callable
from pathlib import Path

from edgestream.cri import cri_pb2
from edgestream.kubelet.cri_backend import NodeFacts
from tests.support.runtime import ScriptedRuntime, container, sandbox
from tests.support.trees import (
    APP_ID,
    IDLE_ID,
    MIB,
    POD,
    POD_UID,
    SANDBOX_ID,
    lines_v1,
    lines_v2,
    write_proc,
    write_v1,
    write_v1_root,
    write_v2,
    write_v2_root,
)

SECOND = 10**9
CREATED = 1_700_000_100 * SECOND + 250_000_000
PIDS = {SANDBOX_ID: 100, APP_ID: 101, IDLE_ID: 102}


class ScriptedNode:
    """The node ``edge-1`` with the pod ``web``, whose containers ``app`` and ``idle`` run.

    The node has used 1000 s of processor time and 1 GiB of memory, the pod 10 s and 20 MiB, ``app``
    7.5 s and 8 MiB of at most 64, ``idle`` 2 s and 4 MiB. A quarter of all memory is inactive file
    pages, but at the root of version 2 it is an eighth. ``cgroups`` may be 0: there are none.
    """

    def __init__(self, base: Path, *, cgroups: int) -> None:
        self.facts = NodeFacts(
            name="edge-1",
            root_directory=base / "kubelet",
            log_directory=base / "log",
            cgroup_root=base / "cgroup",
            proc_root=base / "proc",
        )
        self.pod_logs = base / "pods"
        self._write: Callable[..., None] = write_v2 if cgroups == 2 else write_v1
        if cgroups == 1:
            write_v1_root(self.facts.cgroup_root, cpu=1000 * SECOND, usage=1024 * MIB)
        elif cgroups == 2:
            half = 512 * MIB
            write_v2_root(self.facts.cgroup_root, cpu=1000 * SECOND, anonymous=half, file=half)
        if cgroups:
            self.use(POD, cpu=10 * SECOND, usage=20 * MIB)
            self.use(f"{POD}/{SANDBOX_ID}", cpu=1000, usage=4096)
            self.use(f"{POD}/{APP_ID}", cpu=7500 * SECOND // 1000, usage=8 * MIB, limit=64 * MIB)
            self.use(f"{POD}/{IDLE_ID}", cpu=2 * SECOND, usage=4 * MIB)
        lines = lines_v2 if cgroups == 2 else lines_v1
        members = {pid: lines(f"{POD}/{each}") for each, pid in PIDS.items()} if cgroups else {}
        write_proc(self.facts.proc_root, members)
        self.runtime = self._runtime()

    def use(self, path: str, *, cpu: int, usage: int, **settings: object) -> None:
        """Let a cgroup have used that much, in nanoseconds and bytes."""
        self._write(self.facts.cgroup_root, path, cpu=cpu, usage=usage, **settings)

    def set_pid(self, owner_id: str, pid: int) -> None:
        """Let the runtime tell another process."""
        boxes, containers = self.runtime.sandbox_statuses, self.runtime.statuses
        info = boxes[owner_id].info if owner_id in boxes else containers[owner_id].info
        info["info"] = json.dumps({**json.loads(info["info"]), "pid": pid})

    def add_stats(self, container_id: str, *, cpu: int, working_set: int) -> None:
        """Let the runtime tell what a container used."""
        stats = cri_pb2.ContainerStats()
        stats.attributes.id = container_id
        stats.cpu.timestamp = stats.memory.timestamp = CREATED + SECOND
        stats.cpu.usage_core_nano_seconds.value = cpu
        stats.memory.working_set_bytes.value = working_set
        stats.memory.usage_bytes.value = working_set + 1
        stats.memory.available_bytes.value = 0
        stats.writable_layer.timestamp = CREATED
        stats.writable_layer.fs_id.mountpoint = str(self.facts.root_directory)
        stats.writable_layer.used_bytes.value = 4096
        stats.writable_layer.inodes_used.value = 3
        self.runtime.stats.append(stats)

    def _runtime(self) -> ScriptedRuntime:
        runtime = ScriptedRuntime()
        runtime.sandboxes = [sandbox(SANDBOX_ID, created_at=CREATED, uid=POD_UID)]
        box = runtime.sandbox_statuses[SANDBOX_ID] = cri_pb2.PodSandboxStatusResponse(
            info={
                "info": json.dumps({"pid": PIDS[SANDBOX_ID], "image": "registry.example/pause:3"})
            }
        )
        box.status.id = SANDBOX_ID
        box.status.network.ip = "10.1.2.3"
        for name, container_id in (("app", APP_ID), ("idle", IDLE_ID)):
            runtime.containers.append(
                container(
                    container_id, created_at=CREATED, name=name, uid=POD_UID, sandbox_id=SANDBOX_ID
                )
            )
            status = cri_pb2.ContainerStatus(
                id=container_id,
                state=cri_pb2.CONTAINER_RUNNING,
                created_at=CREATED,
                started_at=CREATED + SECOND,
                image_ref=f"sha256:{name}",
                log_path=str(self.pod_logs / name / "0.log"),
            )
            status.metadata.name = name
            status.image.image = f"registry.example/{name}:1"
            runtime.statuses[container_id] = cri_pb2.ContainerStatusResponse(
                status=status, info={"info": json.dumps({"pid": PIDS[container_id]})}
            )
        return runtime
