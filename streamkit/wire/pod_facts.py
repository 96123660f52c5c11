"""What the cloud knows of a request's pod and a runtime does not: it goes along with a v2 OPEN.

The facts travel as one header line of the request, ``EdgeStream-Pod``, whose value is an object of
JSON in ASCII. Between our own ends only: the cloud takes such a line off what its callers send, and
the edge off what comes over v1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamkit.wire.exchange import RequestHead, header_values, without_headers

_COMPACT = json.JSONEncoder(separators=(",", ":"))

HEADER = "EdgeStream-Pod"
MAX_FACTS = 16 * 1024
"""Bytes of a line's value. A pod with more to tell of is not told of; that takes 60 containers."""


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container of the pod's specification, and its status, empty where the status tells none.

    ``state`` is ``waiting``, ``running`` or ``terminated``, ``reason`` is why it waits. The ids are
    those of the present and of the last terminated container, with the runtime's name in front
    (``containerd://``).
    """

    name: str
    state: str = ""
    reason: str = ""
    container_id: str = ""
    last_id: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod as the API server has it.

    ``runtime_uid`` is the uid that its sandbox has: another than ``uid`` for a static pod, which
    the API server only has a mirror of. ``is_current`` tells that the pod is known to be like this
    now, not a while ago.
    """

    uid: str
    runtime_uid: str
    containers: tuple[ContainerFacts, ...]
    has_init: bool = False
    is_current: bool = False

    def container(self, name: str) -> ContainerFacts | None:
        """The container of that name, if the pod has one."""
        return next((each for each in self.containers if each.name == name), None)


def with_facts(request: RequestHead, facts: PodFacts | None) -> RequestHead:
    """The request with those facts, and with none that it had before."""
    headers = without_headers(request.headers, (HEADER.lower(),))
    if facts is not None and len(value := encode_facts(facts)) <= MAX_FACTS:
        headers = (*headers, (HEADER, value))
    return RequestHead(request.method, request.target, headers)


def facts_of(request: RequestHead) -> PodFacts | None:
    """The facts that came with the request; None if there are none, or none of use."""
    for value in header_values(request.headers, HEADER)[:1]:
        return decode_facts(value)
    return None


def encode_facts(facts: PodFacts) -> str:
    """The header's value. Members that say nothing are left out."""
    document: dict[str, Any] = {"uid": facts.uid}
    if facts.runtime_uid != facts.uid:
        document["runtimeUID"] = facts.runtime_uid
    if facts.is_current:
        document["current"] = True
    if facts.has_init:
        document["init"] = True
    document["containers"] = [_encoded(each) for each in facts.containers]
    return _COMPACT.encode(document)


def decode_facts(value: str) -> PodFacts | None:
    """The facts of a header's value; None for what is none. Unknown members are ignored."""
    if len(value) > MAX_FACTS:
        return None
    try:
        document = json.loads(value)
        uid = _text(document, "uid")
        containers = tuple(_decoded(each) for each in document["containers"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return PodFacts(
        uid=uid,
        runtime_uid=_text(document, "runtimeUID") or uid,
        containers=containers,
        has_init=document.get("init") is True,
        is_current=document.get("current") is True,
    )


_MEMBERS = {
    "state": "state",
    "reason": "reason",
    "containerID": "container_id",
    "lastID": "last_id",
}


def _encoded(container: ContainerFacts) -> dict[str, str]:
    members = {member: getattr(container, name) for member, name in _MEMBERS.items()}
    return {"name": container.name} | {key: text for key, text in members.items() if text}


def _decoded(document: Mapping[str, Any]) -> ContainerFacts:
    members = {name: _text(document, member) for member, name in _MEMBERS.items()}
    return ContainerFacts(_text(document, "name"), **members)


def _text(document: Mapping[str, Any], member: str) -> str:
    """A member's text; empty where it is missing. Raises TypeError for anything else."""
    text = document.get(member, "")
    if not isinstance(text, str):
        raise TypeError(member)
    return text
