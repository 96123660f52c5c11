import pytest

from edgestream.kubelet.query import is_one, parse_query


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("command=sh&command=-c&command=a+b%20%26", {"command": ["sh", "-c", "a b &"]}),
        ("command=&command", {"command": ["", ""]}),
        ("command=%0A%C3%A9&&x", {"command": ["\né"], "x": [""]}),
        ("a=1;b=2&c=3", {"c": ["3"]}),
        ("a=%zz&b=%4&c=%41", {"c": ["A"]}),
        ("a=%ff", {"a": ["\udcff"]}),
        ("a=b=c", {"a": ["b=c"]}),
    ],
)
def test_reads_as_go_does(query: str, values: dict[str, list[str]]) -> None:
    assert parse_query(query) == values


@pytest.mark.parametrize(
    ("query", "is_set"),
    [
        ("tty=1", True),
        ("tty=1&tty=0", True),
        ("tty=0&tty=1", False),
        ("tty=true", False),
        ("", False),
    ],
)
def test_only_one_counts_as_yes(query: str, is_set: bool) -> None:
    assert is_one(parse_query(query), "tty") is is_set
