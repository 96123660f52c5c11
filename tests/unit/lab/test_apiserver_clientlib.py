"""A typed client library in front of the stand-in: it insists on more fields than kubectl does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio import client, config, watch

from tests.unit.lab.apiserver_kit import TOKEN, Keys, Kubectl, api_server, edge_config


@pytest.fixture
async def api(keys: Keys, tmp_path: Path) -> AsyncIterator[Any]:
    async with api_server(edge_config(keys, 1)) as url:
        Kubectl(Path("kubectl"), tmp_path).connect(keys, url)
        loaded = client.Configuration()
        await config.load_kube_config(str(tmp_path / "config"), client_configuration=loaded)
        async with client.ApiClient(loaded) as connected:
            yield connected


@pytest.fixture
def core(api: Any) -> Any:
    return client.CoreV1Api(api)


async def test_pods_and_nodes_are_complete(core: Any) -> None:
    pod = await core.read_namespaced_pod("single", "default")
    assert pod.spec.node_name == "edge-1"
    nodes = (await core.list_node()).items
    assert [each.status.addresses[0].address for each in nodes] == ["10.99.0.1"]


async def test_a_nodes_port_is_published(core: Any) -> None:
    patch = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10360}}}}
    node = await core.patch_node_status("edge-1", patch)
    assert node.status.daemon_endpoints.kubelet_endpoint.port == 10360


async def test_a_conflict_is_told(core: Any) -> None:
    metadata = client.V1ObjectMeta(name="tunnelport", annotations={"a": "1"})
    first = await core.create_namespaced_config_map(
        "kubeedge", client.V1ConfigMap(metadata=metadata)
    )
    first.metadata.annotations["a"] = "2"
    second = await core.replace_namespaced_config_map("tunnelport", "kubeedge", first)
    assert second.metadata.annotations == {"a": "2"}
    with pytest.raises(client.ApiException) as conflict:
        await core.replace_namespaced_config_map("tunnelport", "kubeedge", first)
    assert conflict.value.status == 409


async def test_callers_are_reviewed(api: Any) -> None:
    spec = client.V1TokenReviewSpec(token=TOKEN)
    review = client.V1TokenReview(spec=spec)
    told = await client.AuthenticationV1Api(api).create_token_review(review)
    assert told.status.user.username == "metrics"
    asked = client.V1ResourceAttributes(resource="nodes", subresource="metrics", verb="get")
    access = client.V1SubjectAccessReview(
        spec=client.V1SubjectAccessReviewSpec(user="metrics", resource_attributes=asked)
    )
    granted = await client.AuthorizationV1Api(api).create_subject_access_review(access)
    assert granted.status.allowed


async def test_pods_are_watched(core: Any) -> None:
    async with watch.Watch() as watching:
        events = [
            (event["type"], event["object"].metadata.name)
            async for event in watching.stream(core.list_pod_for_all_namespaces, timeout_seconds=1)
        ]
    assert events[0] == ("ADDED", "double")
    assert len(events) == 4
