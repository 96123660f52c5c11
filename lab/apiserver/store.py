"""Objects in memory, with the API's own rules for versions: nodes, ConfigMaps, namespaces, pods.

Every change takes the next number of one counter, which is the object's resourceVersion. An update
that names an older one is a conflict.
"""

import copy
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from lab.apiserver.status import already_exists, bad_request, conflict, invalid, not_found

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty where the kind has none) and name."""

_FIXED = ("name", "namespace", "uid", "creationTimestamp")


def timestamp(moment: datetime) -> str:
    """A time as the API writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge_patch(target: Any, patch: Any) -> Any:
    """What a JSON merge patch makes of a value (RFC 7386); neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """What a JSON patch (RFC 6902; add, replace, remove, test) makes of an object.

    Raises ApiError 400 for an operation that can't be carried out.
    """
    document = copy.deepcopy(target)
    for operation in operations:
        try:
            _apply_operation(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise bad_request(f"the patch can't be applied: {operation}") from error
    return document


def _apply_operation(document: Any, operation: Any) -> None:
    parts = operation["path"].split("/")[1:]
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in parts)
    place: Any = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    match operation["op"], place:
        case "add", list():
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        case "replace", list():
            place[int(last)] = operation["value"]
        case "remove", list():
            del place[int(last)]
        case "add" | "replace", _:
            place[last] = operation["value"]
        case "remove", _:
            del place[last]
        case "test", _:
            if place[last] != operation["value"]:
                raise ValueError(last)
        case _:
            raise ValueError(operation["op"])


class Versions:
    """The counter that all kinds share."""

    def __init__(self) -> None:
        self.latest = 1

    def take_next(self) -> str:
        """The next resourceVersion."""
        self.latest += 1
        return str(self.latest)


class Collection:
    """The objects of one kind, in the order of their keys."""

    def __init__(self, versions: Versions, kind: str, resource: str) -> None:
        self.kind, self.resource = kind, resource
        self._versions = versions
        self._objects: dict[Key, Object] = {}

    def __iter__(self) -> Iterator[Object]:
        return iter([self._objects[key] for key in sorted(self._objects)])

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def get(self, key: Key) -> Object:
        """The object; raises ApiError 404."""
        if key not in self._objects:
            raise not_found(self.resource, key[1])
        return self._objects[key]

    def create(self, namespace: str, new: Object) -> Object:
        """Add an object; raises ApiError 409 if there is one of that name, 422 without a name."""
        metadata = new.get("metadata") or {}
        if not (name := metadata.get("name")):
            problem = "metadata.name: Required value: name or generateName is required"
            raise invalid(self.kind, "", [problem])
        if (namespace, name) in self._objects:
            raise already_exists(self.resource, name)
        identity = {
            "uid": metadata.get("uid") or str(uuid.uuid4()),
            "creationTimestamp": metadata.get("creationTimestamp") or timestamp(datetime.now(UTC)),
        }
        if namespace:
            identity["namespace"] = namespace
        created = {**new, "kind": self.kind, "apiVersion": "v1", "metadata": metadata | identity}
        return self._put((namespace, name), created)

    def replace(self, key: Key, new: Object, *, only: str | None = None) -> Object:
        """Put another object in the place of an existing one, or only one field of it.

        Raises ApiError 404, and 409 if the new one names a resourceVersion that is not the latest.
        """
        current = self.get(key)
        metadata = new.get("metadata") or {}
        version = metadata.get("resourceVersion")
        if version and version != current["metadata"]["resourceVersion"]:
            raise conflict(self.resource, key[1])
        if only:
            return self._put(key, {**current, only: new.get(only, {})})
        own = current["metadata"]
        kept = {field: own[field] for field in _FIXED if field in own}
        return self._put(key, {**new, "kind": self.kind, "metadata": metadata | kept})

    def delete(self, key: Key) -> Object:
        """Remove an object and return it; raises ApiError 404."""
        removed = self.get(key)
        del self._objects[key]
        return removed

    def observe(self, found: dict[Key, Object]) -> None:
        """Make these whole objects all there are; only those that differ take a new version."""
        for key in self._objects.keys() - found.keys():
            del self._objects[key]
        for key, new in found.items():
            if (current := self._objects.get(key)) is not None:
                version = current["metadata"]["resourceVersion"]
                if current == {**new, "metadata": {**new["metadata"], "resourceVersion": version}}:
                    continue
            self._put(key, new)

    def _put(self, key: Key, new: Object) -> Object:
        """Objects are never changed once they are in here, so that readers need no copy."""
        metadata = {**new["metadata"], "resourceVersion": self._versions.take_next()}
        stored = {**new, "metadata": metadata}
        self._objects[key] = stored
        return stored
