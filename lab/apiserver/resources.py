"""The verbs on objects: list, get, watch, create, update, patch, delete; as JSON or as Tables."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.apiserver.call import JSON_HEADERS, Call
from lab.apiserver.selectors import make_selector
from lab.apiserver.status import bad_request, method_not_allowed, no_such_path
from lab.apiserver.store import Collection, Key, Object, json_patch, merge_patch
from lab.apiserver.table import make_table
from lab.apiserver.world import World
from streamkit.wire.exchange import header_values

WATCH_INTERVAL = 0.2
"""Seconds between two looks at the pods while somebody watches."""
WATCH_LIMIT = 3600.0
"""Seconds after which a watch ends that names no end of its own."""

_NAMESPACED = ("pods", "configmaps")
_CLUSTER_WIDE = ("nodes", "namespaces")


@dataclass(frozen=True, slots=True)
class Place:
    """What a path below ``/api/v1`` names; empty parts are not in it."""

    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """Where the object is in its collection."""
        return self.namespace, self.name


def parse_place(segments: list[str]) -> Place:
    """The place that the segments behind ``/api/v1`` name; raises ApiError 404 if there is none."""
    match segments:
        case ["namespaces", namespace, resource, *rest] if (
            resource in _NAMESPACED and len(rest) < 3
        ):
            return Place(resource, namespace, *rest)
        case [resource, *rest] if resource in _CLUSTER_WIDE and len(rest) < 3:
            return Place(resource, "", *rest)
        case [resource] if resource in _NAMESPACED:
            return Place(resource)
        case _:
            raise no_such_path()


async def serve_resource(call: Call, world: World, place: Place) -> None:
    """Answer a request on objects. Raises ApiError; pods can only be read."""
    if place.resource == "pods":
        await world.refresh_pods()
    collection = world.collections[place.resource]
    if place.subresource not in ("", "status"):
        raise no_such_path()
    match call.head.method, bool(place.name):
        case "GET", False if call.flag("watch"):
            await _watch(call, world, collection, place)
        case "GET", False:
            await _list(call, world, collection, place)
        case "GET", True:
            await call.answer_json(_shown(call, collection, collection.get(place.key)))
        case ("POST", False) | ("PUT" | "PATCH" | "DELETE", True) if place.resource != "pods":
            await _change(call, collection, place)
        case _:
            raise method_not_allowed()


async def _change(call: Call, collection: Collection, place: Place) -> None:
    only = place.subresource or None
    status = 200
    match call.head.method:
        case "POST":
            new, status = collection.create(place.namespace, _object(call)), 201
        case "PUT":
            new = collection.replace(place.key, _object(call), only=only)
        case "PATCH":
            patched = _patched(call, collection.get(place.key))
            new = collection.replace(place.key, patched, only=only)
        case _:
            new = collection.delete(place.key)
    await call.answer_json(new, status)


def _object(call: Call) -> Object:
    document = call.json()
    if not isinstance(document, dict):
        raise bad_request("the request's body is not an object")
    return document


def _patched(call: Call, current: Object) -> Object:
    """A strategic merge is done as a plain one: lists are replaced."""
    patch = call.json()
    apply = json_patch if isinstance(patch, list) else merge_patch
    result = apply(current, patch)
    if not isinstance(result, dict):
        raise bad_request("the patch leaves no object")
    return result


async def _list(call: Call, world: World, collection: Collection, place: Place) -> None:
    items = list(filter(_matcher(call, place), collection))
    version = str(world.versions.latest)
    if _wants_table(call):
        table = make_table(collection.kind, items, version, whole=_wants_whole(call))
        await call.answer_json(table)
        return
    document = {
        "kind": f"{collection.kind}List",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": version},
        "items": items,
    }
    await call.answer_json(document)


def _shown(call: Call, collection: Collection, item: Object) -> Object:
    if not _wants_table(call):
        return item
    version = item["metadata"]["resourceVersion"]
    return make_table(collection.kind, [item], version, whole=_wants_whole(call))


async def _watch(call: Call, world: World, collection: Collection, place: Place) -> None:
    """Send what changes from the given resourceVersion on, or all there is and then the changes.

    With ``sendInitialEvents`` a bookmark tells where the changes begin. Ends after
    ``timeoutSeconds``. Objects deleted before the watch began go unmentioned.
    """
    limit = call.number("timeoutSeconds") or WATCH_LIMIT
    initial = call.flag("sendInitialEvents")
    since = 0 if initial else call.number("resourceVersion") or 0
    matches = _matcher(call, place)
    known = {
        _key(item): item
        for item in filter(matches, collection)
        if int(item["metadata"]["resourceVersion"]) <= since
    }
    await call.connection.start(200, JSON_HEADERS)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        current = {_key(item): item for item in filter(matches, collection)}
        for kind, item in _events(known, current):
            await _send_event(call, kind, _shown(call, collection, item))
        if initial:
            await _send_event(call, "BOOKMARK", _bookmark(collection, world.versions.latest))
            initial = False
        known = current
        await asyncio.sleep(WATCH_INTERVAL)
        if collection is world.pods:
            await world.refresh_pods()
    await call.connection.finish()


async def _send_event(call: Call, kind: str, shown: Object) -> None:
    line = json.dumps({"type": kind, "object": shown}) + "\n"
    await call.connection.send_data(line.encode())


def _bookmark(collection: Collection, version: int) -> Object:
    notes = {"k8s.io/initial-events-end": "true"}
    metadata = {"resourceVersion": str(version), "annotations": notes}
    return {"kind": collection.kind, "apiVersion": "v1", "metadata": metadata}


def _events(known: dict[Key, Object], current: dict[Key, Object]) -> Iterable[tuple[str, Object]]:
    for key, item in known.items():
        if key not in current:
            yield "DELETED", item
    for key, item in current.items():
        if key not in known:
            yield "ADDED", item
        elif item is not known[key]:
            yield "MODIFIED", item


def _key(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _wants_table(call: Call) -> bool:
    return any("as=Table" in value for value in header_values(call.head.headers, "accept"))


def _wants_whole(call: Call) -> bool:
    return call.option("includeObject") == "Object"


def _matcher(call: Call, place: Place) -> Callable[[Object], bool]:
    """What the namespace, ``labelSelector`` and ``fieldSelector`` let through."""
    selected = make_selector(call.option("labelSelector"), call.option("fieldSelector"))
    namespace = place.namespace
    return lambda item: namespace in ("", item["metadata"].get("namespace")) and selected(item)
