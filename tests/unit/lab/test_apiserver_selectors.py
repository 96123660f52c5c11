"""Label and field selectors."""

import pytest

from lab.apiserver.selectors import make_selector
from lab.apiserver.status import ApiError

POD = {
    "metadata": {"name": "web", "labels": {"app": "web", "tier": "edge"}},
    "spec": {"nodeName": "edge-1"},
}


@pytest.mark.parametrize(
    ("labels", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=edge", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("app in (db, web),tier", True),
        ("app notin (db, web)", False),
        ("!app", False),
        ("!none", True),
        ("none", False),
    ],
)
def test_label_selectors(labels: str, matches: bool) -> None:
    assert make_selector(labels, "")(POD) is matches


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ("metadata.name=web", True),
        ("metadata.name=db", False),
        ("spec.nodeName!=edge-2,metadata.name==web", True),
        ("status.phase=Running", False),
    ],
)
def test_field_selectors(fields: str, matches: bool) -> None:
    assert make_selector("", fields)(POD) is matches


@pytest.mark.parametrize(("labels", "fields"), [("a of (b)", ""), ("", "metadata.name")])
def test_what_is_no_selector_is_refused(labels: str, fields: str) -> None:
    with pytest.raises(ApiError) as refused:
        make_selector(labels, fields)
    assert refused.value.status == 400
