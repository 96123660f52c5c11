"""Objects in memory: versions, conflicts, patches."""

from typing import Any

import pytest

from lab.apiserver.status import ApiError
from lab.apiserver.store import Collection, Versions, json_patch, merge_patch

KEY = ("kubeedge", "tunnelport")


@pytest.fixture
def config_maps() -> Collection:
    return Collection(Versions(), "ConfigMap", "configmaps")


def new(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "tunnelport"}, **fields}


def test_a_created_object_is_completed(config_maps: Collection) -> None:
    created = config_maps.create("kubeedge", new(data={"a": "1"}))
    assert created["kind"] == "ConfigMap"
    assert created["metadata"]["namespace"] == "kubeedge"
    assert created["metadata"]["uid"]
    assert created["metadata"]["creationTimestamp"].endswith("Z")
    assert config_maps.get(KEY) == created


def test_a_name_is_taken_once_and_needed(config_maps: Collection) -> None:
    config_maps.create("kubeedge", new())
    with pytest.raises(ApiError, match="already exists") as taken:
        config_maps.create("kubeedge", new())
    assert taken.value.status == 409
    with pytest.raises(ApiError, match=r"metadata\.name") as nameless:
        config_maps.create("kubeedge", {})
    assert nameless.value.status == 422


def test_an_update_of_an_old_version_is_a_conflict(config_maps: Collection) -> None:
    first = config_maps.create("kubeedge", new())
    second = config_maps.replace(KEY, {**first, "data": {"a": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(ApiError, match="has been modified") as conflict:
        config_maps.replace(KEY, {**first, "data": {"a": "3"}})
    assert conflict.value.status == 409
    assert config_maps.get(KEY)["data"] == {"a": "2"}


def test_an_update_without_a_version_always_wins(config_maps: Collection) -> None:
    config_maps.create("kubeedge", new())
    assert config_maps.replace(KEY, new(data={"b": "1"}))["data"] == {"b": "1"}


def test_only_one_field_can_be_replaced() -> None:
    nodes = Collection(Versions(), "Node", "nodes")
    nodes.create("", {"metadata": {"name": "edge-1"}, "spec": {"a": 1}, "status": {"b": 1}})
    given = {"metadata": {"name": "edge-1", "labels": {"x": "y"}}, "spec": {}, "status": {"b": 2}}
    replaced = nodes.replace(("", "edge-1"), given, only="status")
    assert replaced["status"] == {"b": 2}
    assert replaced["spec"] == {"a": 1}
    assert "labels" not in replaced["metadata"]


def test_what_is_deleted_is_gone(config_maps: Collection) -> None:
    config_maps.create("kubeedge", new())
    config_maps.delete(KEY)
    with pytest.raises(ApiError, match="not found"):
        config_maps.get(KEY)


def test_only_what_changed_takes_a_new_version(config_maps: Collection) -> None:
    one = {"metadata": {"name": "one", "namespace": "ns"}, "data": {"a": "1"}}
    two = {"metadata": {"name": "two", "namespace": "ns"}, "data": {"a": "1"}}
    config_maps.observe({("ns", "one"): one, ("ns", "two"): two})
    before = {item["metadata"]["name"]: item for item in config_maps}
    config_maps.observe({("ns", "one"): one, ("ns", "two"): {**two, "data": {"a": "2"}}})
    after = {item["metadata"]["name"]: item for item in config_maps}
    assert after["one"] is before["one"]
    assert after["two"] is not before["two"]
    config_maps.observe({("ns", "two"): two})
    assert [item["metadata"]["name"] for item in config_maps] == ["two"]


def test_a_merge_patch_sets_removes_and_descends() -> None:
    target = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge_patch(target, {"a": {"b": None, "e": 3}, "d": [2]}) == {
        "a": {"c": 2, "e": 3},
        "d": [2],
    }
    assert target == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_json_patch_does_its_operations_in_order() -> None:
    target = {"a": {"x/y": 1}, "l": [1, 3]}
    operations = [
        {"op": "test", "path": "/a/x~1y", "value": 1},
        {"op": "replace", "path": "/a/x~1y", "value": 2},
        {"op": "add", "path": "/l/1", "value": 2},
        {"op": "add", "path": "/l/-", "value": 4},
        {"op": "remove", "path": "/l/0"},
    ]
    assert json_patch(target, operations) == {"a": {"x/y": 2}, "l": [2, 3, 4]}
    assert target == {"a": {"x/y": 1}, "l": [1, 3]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "move", "path": "/a"},
        {"path": "/a"},
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, [operation])
    assert refused.value.status == 400
