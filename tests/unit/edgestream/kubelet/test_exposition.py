import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from edgestream.kubelet.exposition import Family, go_float, page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (-2.5, "-2.5"),
        (3.5, "3.5"),
        (100000, "100000"),
        (123456.789, "123456.789"),
        (1000000, "1e+06"),
        (12345678, "1.2345678e+07"),
        (1714557600.123, "1.714557600123e+09"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.25e-10, "1.25e-10"),
        (2**63, "9.223372036854776e+18"),
        (1e100, "1e+100"),
    ],
)
def test_numbers_look_as_in_go(value: float, text: str) -> None:
    assert go_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_nothing(value: float) -> None:
    assert math.isclose(float(go_float(value)), value, rel_tol=0, abs_tol=0)


def test_a_page_is_sorted() -> None:
    second = Family("b_total", "counter", "[STABLE] Second")
    second.add(2, {"pod": "p", "container": "b"}, at=1714557600123_456789)
    second.add(1.5, {"pod": "p", "container": "a"}, at=1714557600123_999999)
    first = Family("a", "gauge", "[ALPHA] First")
    first.add(12345678)
    empty = Family("c", "gauge", "Nothing")
    empty.add(None)
    assert page([second, empty, first]).decode() == (
        "# HELP a [ALPHA] First\n"
        "# TYPE a gauge\n"
        "a 1.2345678e+07\n"
        "# HELP b_total [STABLE] Second\n"
        "# TYPE b_total counter\n"
        'b_total{container="a",pod="p"} 1.5 1714557600123\n'
        'b_total{container="b",pod="p"} 2 1714557600123\n'
    )
    assert page([]) == b""


def test_equal_labels_are_one_sample() -> None:
    family = Family("a", "gauge", "A")
    family.add(1, {"x": "1"})
    family.add(2, {"x": "1"})
    family.add(None, {"x": "1"})
    assert family.lines().splitlines()[2:] == ['a{x="1"} 2']


@given(st.dictionaries(st.sampled_from(["a", "b_c"]), st.text(), min_size=1))
def test_labels_come_back(labels: dict[str, str]) -> None:
    labels = {name: text.encode(errors="replace").decode() for name, text in labels.items()}
    labels = {name: text.replace("\r", "") for name, text in labels.items()}
    family = Family("a", "gauge", "A")
    family.add(1, labels)
    (parsed,) = text_string_to_metric_families(family.lines())
    assert parsed.samples[0].labels == labels
