"""What of a Pod goes to its edge along with a request."""

from collections.abc import Iterable, Mapping
from typing import Any

from cloudstream.kube.api import JsonObject
from streamkit.wire.pod_facts import ContainerFacts, PodFacts

_MIRROR = "kubernetes.io/config.mirror"
"""On the API server's image of a static pod: the uid that the kubelet gave that pod."""
_LONGEST = 256
"""Characters of a text that are kept: names and ids are shorter, a reason is a word."""
_STATES = ("running", "terminated", "waiting")


def facts_of_pod(pod: JsonObject) -> PodFacts | None:
    """The facts of a Pod object; None of one without an identity. Odd members count as missing."""
    metadata, spec, status = (_object(pod.get(part)) for part in ("metadata", "spec", "status"))
    uid = _text(metadata, "uid")
    if not uid:
        return None
    mirrored = _text(_object(metadata.get("annotations")), _MIRROR)
    init = _objects(spec.get("initContainers"))
    specified = (
        *(("initContainerStatuses", each) for each in init),
        *(("containerStatuses", each) for each in _objects(spec.get("containers"))),
        *(
            ("ephemeralContainerStatuses", each)
            for each in _objects(spec.get("ephemeralContainers"))
        ),
    )
    statuses = {
        (kind, _text(each, "name")): each
        for kind in {kind for kind, _ in specified}
        for each in _objects(status.get(kind))
    }
    containers = tuple(
        _container(name, statuses.get((kind, name), {}))
        for kind, each in specified
        if (name := _text(each, "name"))
    )
    return PodFacts(uid, mirrored or uid, containers, has_init=bool(init))


def _container(name: str, status: Mapping[str, Any]) -> ContainerFacts:
    states = _object(status.get("state"))
    state = next((each for each in _STATES if isinstance(states.get(each), dict)), "")
    now = _object(states.get(state))
    last = _object(_object(status.get("lastState")).get("terminated"))
    return ContainerFacts(
        name=name,
        # As in the API: a status without a state is one of a container that waits.
        state=state or ("waiting" if status else ""),
        reason=_text(now, "reason") if state == "waiting" else "",
        container_id=_text(status if state == "running" else now, "containerID"),
        last_id=_text(last, "containerID"),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    items: Iterable[object] = value if isinstance(value, list) else ()
    return [each for each in items if isinstance(each, dict)]


def _text(document: Mapping[str, Any], member: str) -> str:
    value = document.get(member)
    return value[:_LONGEST] if isinstance(value, str) else ""
