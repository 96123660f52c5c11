"""The verbs on objects: list, get, watch, create, update, patch, delete; as JSON or as Tables."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.apiserver.call import JSON_HEADERS, Call
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
_Filter = Callable[[Object], bool]


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
            await _show(call, world, collection, collection.get(place.key))
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
    items = list(filter(_selector(call, place), collection))
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


async def _show(call: Call, world: World, collection: Collection, item: Object) -> None:
    if _wants_table(call):
        version = item["metadata"]["resourceVersion"]
        item = make_table(collection.kind, [item], version, whole=_wants_whole(call))
    await call.answer_json(item)


async def _watch(call: Call, world: World, collection: Collection, place: Place) -> None:
    """Send what changes from the given resourceVersion on, or all there is and then the changes.

    Ends after ``timeoutSeconds``. Objects deleted before the watch began go unmentioned.
    """
    limit = float(call.option("timeoutSeconds") or WATCH_LIMIT)
    since = int(call.option("resourceVersion") or 0)
    matches = _selector(call, place)
    known = {
        _key(item): item
        for item in filter(matches, collection)
        if 0 < int(item["metadata"]["resourceVersion"]) <= since
    }
    await call.connection.start(200, JSON_HEADERS)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        current = {_key(item): item for item in filter(matches, collection)}
        for kind, item in _events(known, current):
            shown = item
            if _wants_table(call):
                version = item["metadata"]["resourceVersion"]
                shown = make_table(collection.kind, [item], version, whole=_wants_whole(call))
            line = json.dumps({"type": kind, "object": shown}) + "\n"
            await call.connection.send_data(line.encode())
        known = current
        await asyncio.sleep(WATCH_INTERVAL)
        if collection is world.pods:
            await world.refresh_pods()
    await call.connection.finish()


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


def _selector(call: Call, place: Place) -> _Filter:
    """What the namespace, ``labelSelector`` and ``fieldSelector`` let through."""
    labels = [_label_test(term) for term in _terms(call.option("labelSelector"))]
    fields = [_field_test(term) for term in _terms(call.option("fieldSelector"))]

    def matches(item: Object) -> bool:
        if place.namespace and item["metadata"].get("namespace") != place.namespace:
            return False
        own = item["metadata"].get("labels") or {}
        return all(test(own) for test in labels) and all(test(item) for test in fields)

    return matches


def _terms(selector: str) -> list[str]:
    """Split at the commas that are not inside parentheses."""
    terms, depth, start = [], 0, 0
    for place, character in enumerate(selector):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            terms.append(selector[start:place].strip())
            start = place + 1
    return list(filter(None, [*terms, selector[start:].strip()]))


def _label_test(term: str) -> Callable[[dict[str, str]], bool]:
    if term.endswith(")"):
        key, _, values = term.removesuffix(")").partition("(")
        name, operator = key.split()
        allowed = {value.strip() for value in values.split(",")}
        if operator == "in":
            return lambda labels: labels.get(name) in allowed
        return lambda labels: labels.get(name) not in allowed
    if "=" in term:
        key, value, equal = _comparison(term)
        return lambda labels: (labels.get(key) == value) is equal
    if term.startswith("!"):
        return lambda labels: term[1:].strip() not in labels
    return lambda labels: term in labels


def _field_test(term: str) -> _Filter:
    """A test on a dotted path; raises ApiError 400 for a term that compares nothing."""
    if "=" not in term:
        raise bad_request(f"invalid field selector: {term!r}")
    path, value, equal = _comparison(term)

    def matches(item: Object) -> bool:
        found: object = item
        for part in path.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        return (found == value) is equal

    return matches


def _comparison(term: str) -> tuple[str, str, bool]:
    name, _, value = term.partition("=")
    equal = not name.endswith("!")
    return name.rstrip("!").strip(), value.lstrip("=").strip(), equal
