"""Objects over HTTP: lists, tables, watches, changes, reviews, and who may ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.lab.apiserver_kit import (
    LIMIT,
    TOKEN,
    Keys,
    RestClient,
    api_server,
    edge_config,
    rest_client,
)

PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/kubeedge/configmaps"
NODE = "/api/v1/nodes/edge-1"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@pytest.fixture
async def rest(keys: Keys) -> AsyncIterator[RestClient]:
    async with api_server(edge_config(keys, 1)) as url, rest_client(keys, url) as client:
        yield client


def names(document: Any) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


async def test_lists_are_filtered(rest: RestClient) -> None:
    status, everywhere = await rest("GET", "/api/v1/pods")
    assert (status, everywhere["kind"]) == (200, "PodList")
    assert names(everywhere) == ["double", "lost", "single", "waiting"]
    assert names((await rest("GET", f"{PODS}?labelSelector=app%3Dsingle"))[1]) == ["single"]
    field = "fieldSelector=spec.nodeName%3Dedge-9"
    assert names((await rest("GET", f"{PODS}?{field}"))[1]) == ["lost"]
    assert names((await rest("GET", "/api/v1/namespaces/other/pods"))[1]) == []


async def test_one_object_is_shown(rest: RestClient) -> None:
    status, pod = await rest("GET", f"{PODS}/single")
    assert (status, pod["spec"]["nodeName"]) == (200, "edge-1")
    status, node = await rest("GET", NODE)
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10351}}
    assert {"type": "InternalIP", "address": "10.99.0.1"} in node["status"]["addresses"]


async def test_tables_have_a_cell_for_each_column(rest: RestClient) -> None:
    for path in ("/api/v1/pods", "/api/v1/nodes", "/api/v1/namespaces", f"{PODS}/single"):
        status, table = await rest("GET", path, headers=TABLE)
        assert (status, table["kind"]) == (200, "Table")
        assert table["rows"]
        for row in table["rows"]:
            assert len(row["cells"]) == len(table["columnDefinitions"])
            assert row["object"]["kind"] == "PartialObjectMetadata"


async def test_a_table_may_carry_whole_objects(rest: RestClient) -> None:
    _, table = await rest("GET", f"{PODS}?includeObject=Object", headers=TABLE)
    assert table["rows"][0]["object"]["kind"] == "Pod"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", f"{PODS}/none", 404, 'pods "none" not found'),
        ("GET", "/api/v1/nodes/none", 404, 'nodes "none" not found'),
        ("GET", "/api/v1/secrets", 404, "could not find the requested resource"),
        ("GET", "/openapi/v2", 404, "could not find the requested resource"),
        ("GET", f"{PODS}/single/eviction", 404, "could not find the requested resource"),
        ("DELETE", f"{PODS}/single", 405, "does not allow this method"),
        ("DELETE", f"{PODS}/single/exec", 405, "does not allow this method"),
        ("GET", f"{PODS}?fieldSelector=x", 400, "invalid field selector"),
        ("GET", f"{PODS}?watch=1&timeoutSeconds=x", 400, "is not a number"),
        ("POST", CONFIG_MAPS, 400, "not JSON"),
    ],
)
async def test_what_cannot_be_served(
    rest: RestClient, method: str, path: str, status: int, message: str
) -> None:
    got, document = await rest(method, path)
    assert (got, document["kind"], document["code"]) == (status, "Status", status)
    assert message in document["message"]


async def test_a_config_map_lives_through_its_verbs(rest: RestClient) -> None:
    new = {"metadata": {"name": "tunnelport"}, "data": {"a": "1"}}
    status, first = await rest("POST", CONFIG_MAPS, json=new)
    assert status == 201
    status, _ = await rest("POST", CONFIG_MAPS, json=new)
    assert status == 409
    status, second = await rest("PUT", f"{CONFIG_MAPS}/tunnelport", json={**first, "data": {}})
    assert (status, second["data"]) == (200, {})
    status, conflict = await rest("PUT", f"{CONFIG_MAPS}/tunnelport", json=first)
    assert (status, conflict["reason"]) == (409, "Conflict")
    patch = [{"op": "add", "path": "/data/b", "value": "2"}]
    status, third = await rest("PATCH", f"{CONFIG_MAPS}/tunnelport", json=patch)
    assert (status, third["data"]) == (200, {"b": "2"})
    assert (await rest("DELETE", f"{CONFIG_MAPS}/tunnelport"))[0] == 200
    assert (await rest("GET", f"{CONFIG_MAPS}/tunnelport"))[0] == 404


async def test_a_nodes_port_is_published_by_a_patch_of_its_status(rest: RestClient) -> None:
    patch = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10352}}}}
    status, node = await rest("PATCH", f"{NODE}/status", json=patch)
    assert (status, node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]) == (200, 10352)
    assert node["status"]["addresses"]


async def test_a_watch_tells_what_there_is_and_then_what_changes(
    rest: RestClient,
) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def follow() -> None:
        path = f"{CONFIG_MAPS}?watch=true&sendInitialEvents=true"
        async for line in rest.lines(path):
            events.put_nowait(json.loads(line))

    async def next_event() -> tuple[str, str]:
        async with asyncio.timeout(LIMIT):
            event = await events.get()
        return event["type"], event["object"]["metadata"].get("name", "")

    await rest("POST", CONFIG_MAPS, json={"metadata": {"name": "old"}})
    watching = asyncio.create_task(follow())
    assert await next_event() == ("ADDED", "old")
    assert await next_event() == ("BOOKMARK", "")
    await rest("POST", CONFIG_MAPS, json={"metadata": {"name": "new"}})
    assert await next_event() == ("ADDED", "new")
    await rest("PUT", f"{CONFIG_MAPS}/new", json={"metadata": {}, "data": {"a": "1"}})
    assert await next_event() == ("MODIFIED", "new")
    await rest("DELETE", f"{CONFIG_MAPS}/old")
    assert await next_event() == ("DELETED", "old")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_watch_from_a_version_leaves_out_what_was_there(rest: RestClient) -> None:
    _, listed = await rest("GET", CONFIG_MAPS)
    version = listed["metadata"]["resourceVersion"]
    await rest("POST", CONFIG_MAPS, json={"metadata": {"name": "new"}})
    path = f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}"
    _, body, _ = await rest.raw("GET", path)
    assert [json.loads(line)["object"]["metadata"]["name"] for line in body.splitlines()] == ["new"]
    _, listed = await rest("GET", CONFIG_MAPS)
    version = listed["metadata"]["resourceVersion"]
    path = f"{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}"
    _, body, _ = await rest.raw("GET", path)
    assert body == b""


async def test_a_head_request_has_no_body(rest: RestClient) -> None:
    status, body, headers = await rest.raw("HEAD", "/healthz")
    assert (status, body, headers["Content-Length"]) == (200, b"", "2")
    assert (await rest.raw("GET", "/healthz"))[1] == b"ok"


async def test_discovery_names_the_resources(rest: RestClient) -> None:
    assert (await rest("GET", "/version"))[1]["gitVersion"].startswith("v1.")
    assert (await rest("GET", "/api"))[1]["versions"] == ["v1"]
    _, core = await rest("GET", "/api/v1")
    assert {"pods", "pods/exec", "nodes", "nodes/proxy"} <= {
        each["name"] for each in core["resources"]
    }
    _, groups = await rest("GET", "/apis")
    for group in groups["groups"]:
        for version in group["versions"]:
            status, listed = await rest("GET", f"/apis/{version['groupVersion']}")
            assert (status, listed["kind"]) == (200, "APIResourceList")


async def test_anonymous_callers_see_health_and_version_only(keys: Keys) -> None:
    async with (
        api_server(edge_config(keys, 1)) as url,
        rest_client(keys, url, user=None) as rest,
    ):
        assert (await rest.raw("GET", "/healthz"))[:2] == (200, b"ok")
        assert (await rest("GET", "/version"))[0] == 200
        status, refused = await rest("GET", PODS)
        assert (status, refused["reason"]) == (403, "Forbidden")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert (await rest("GET", PODS, headers=bearer))[0] == 200
        bearer = {"Authorization": "Bearer other"}
        assert (await rest("GET", PODS, headers=bearer))[0] == 401


async def test_reviews_tell_who_a_token_is_and_what_it_grants(rest: RestClient) -> None:
    tokens = "/apis/authentication.k8s.io/v1/tokenreviews"
    access = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    async def status_of(path: str, **spec: Any) -> Any:
        status, review = await rest("POST", path, json={"kind": "Review", "spec": spec})
        assert status == 201
        return review["status"]

    known = await status_of(tokens, token=TOKEN)
    assert known["authenticated"]
    assert known["user"]["username"] == "metrics"
    assert not (await status_of(tokens, token="other"))["authenticated"]
    metrics = {"resource": "nodes", "subresource": "metrics", "verb": "get"}
    proxy = {"resource": "nodes", "subresource": "proxy", "verb": "get"}
    assert (await status_of(access, user="metrics", resourceAttributes=metrics))["allowed"]
    assert not (await status_of(access, user="metrics", resourceAttributes=proxy))["allowed"]
    masters = {"user": "x", "groups": ["system:masters"]}
    assert (await status_of(access, **masters, resourceAttributes=proxy))["allowed"]
    assert (await rest("POST", tokens, json={}))[0] == 400
    assert (await rest("GET", tokens))[0] == 405
