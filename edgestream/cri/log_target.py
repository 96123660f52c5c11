"""Which container's log a request means, or why there is none, in the kubelet's words.

A kubelet decides by the pod's status, which also tells the reasons for waiting, and whether an
ended container counts as terminated or as waiting for its restart. What a runtime does not know of
that comes from the API server's facts, and where there are none it is inferred.
"""

from dataclasses import dataclass

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import (
    CONTAINER_EXITED,
    CONTAINER_RUNNING,
    Container,
    ContainerStatus,
)
from edgestream.cri.lookup import RESTART_COUNT, RuntimePod
from streamkit.wire.pod_facts import ContainerFacts

_CREATING, _INITIALIZING = "ContainerCreating", "PodInitializing"
_WORDS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


@dataclass(frozen=True, slots=True)
class LogTarget:
    """A container whose log is to be read, and the file's path as the runtime states it."""

    container_id: str
    log_path: str


async def find_log(
    client: CriClient, pod: RuntimePod, container_name: str, *, previous: bool
) -> LogTarget:
    """The log that a kubelet would read. Raises a KubeletAnswer where there is no such log."""
    newest, second = pod.log_attempts(container_name)
    if newest is None:
        raise _without_attempts(pod, container_name, previous=previous)
    facts = pod.own_facts
    known = facts.container(container_name) if facts else None
    ended = second if second and second.state == CONTAINER_EXITED else None
    if previous:
        if newest.state == CONTAINER_EXITED and await _is_last_state(client, pod, newest, known):
            ended = newest
        if ended is None:
            raise _no_previous(pod, container_name, known)
        chosen = ended
    elif newest.state in (CONTAINER_RUNNING, CONTAINER_EXITED):
        chosen = newest
    elif ended is None:
        raise _waiting(pod, container_name, known.reason if known else "")
    else:
        chosen = ended
    return LogTarget(chosen.id, (await _status(client, chosen)).log_path)


def _without_attempts(pod: RuntimePod, name: str, *, previous: bool) -> KubeletAnswer:
    """The answer where the runtime has never had that container, or has it no more."""
    facts = pod.own_facts
    if facts is None:
        if previous:
            return _no_previous(pod, name, None)
        return _waiting(pod, name, _CREATING)
    known = facts.container(name)
    if known is None:
        return KubeletAnswer(404, f'container "{name}" not found in pod "{pod.name}"')
    if not known.state and not pod.has_sandbox:
        return _bad_log_request(f'container "{name}" in pod "{pod.name}" is not available')
    if previous:
        return _no_previous(pod, name, known)
    if gone := known.container_id or known.last_id:
        return _not_retrieved(gone)
    if known.state == "terminated":
        return _bad_log_request(f'container "{name}" in pod "{pod.name}" is terminated')
    return _waiting(pod, name, known.reason or (_INITIALIZING if facts.has_init else _CREATING))


async def _is_last_state(
    client: CriClient, pod: RuntimePod, exited: Container, known: ContainerFacts | None
) -> bool:
    """Whether the kubelet shows that attempt as the last state of a container in back-off.

    Where the facts are older than the attempt that is inferred from an exit with an error, not the
    first one, in a pod that is still up.
    """
    if known and _id(known.last_id) == exited.id:
        return True
    if known and known.state == "terminated" and _id(known.container_id) == exited.id:
        return False
    restarts = exited.annotations.get(RESTART_COUNT, "") or str(exited.metadata.attempt)
    if not pod.has_ready_sandbox or restarts == "0":
        return False
    return (await _status(client, exited)).exit_code != 0


async def _status(client: CriClient, container: Container) -> ContainerStatus:
    try:
        return (await client.container_status(container.id)).status
    except KubeletAnswer as error:
        # The API server would replace the body of the 404 that a removed container gets.
        raise _not_retrieved(f"containerd://{container.id}") from error


def _id(named: str) -> str:
    """The container's id, without the runtime's name in front of it."""
    return named.rpartition("://")[2]


def _no_previous(pod: RuntimePod, name: str, known: ContainerFacts | None) -> KubeletAnswer:
    if known and known.last_id:
        return _not_retrieved(known.last_id)
    return _bad_log_request(f'previous terminated container "{name}" in pod "{pod.name}" not found')


def _not_retrieved(container_id: str) -> KubeletAnswer:
    """The answer where the API server knows of a container that the runtime has removed."""
    return _bad_log_request(f"unable to retrieve container logs for {container_id}")


def _waiting(pod: RuntimePod, name: str, reason: str) -> KubeletAnswer:
    why = _WORDS.get(reason, reason)
    return _bad_log_request(f'container "{name}" in pod "{pod.name}" is waiting to start: {why}')


def _bad_log_request(body: str) -> KubeletAnswer:
    """A kubelet has declared its answer chunked by then, which costs it the Content-Type."""
    return KubeletAnswer(400, body, headers=())
