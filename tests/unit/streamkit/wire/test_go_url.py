import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.wire.go_url import GoUrl, escape_path, parse_target

PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
BARE = set(string.ascii_letters + string.digits + "-_.~$&+,/:;=@")


def test_go_leaves_these_characters_of_a_path_bare() -> None:
    for character in PRINTABLE:
        escaped = character if character in BARE else f"%{ord(character):02X}"
        assert escape_path(character) == escaped


@given(st.text(PRINTABLE.replace("%", "") + "é日", max_size=30), st.text(PRINTABLE, max_size=30))
def test_a_target_that_go_would_write_comes_back(path: str, query: str) -> None:
    target = f"/{escape_path(path)}?{query}"
    url = parse_target(target)
    assert url == GoUrl(f"/{path}", "", query, force_query=not query)
    assert url.target == target


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.booleans())
def test_any_url_makes_a_target_of_ascii_without_a_hash_of_its_path(
    path: str, raw_path: str, raw_query: str, force_query: bool
) -> None:
    target = GoUrl(path, raw_path, raw_query, force_query).target
    assert target.isascii()
    shown = target.partition("?")[0]
    assert set(shown) <= BARE | set("%!'()*[]")


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/a%2Fb", GoUrl("/a/b", "/a%2Fb", "", False)),
        ("/a%2fb?x", GoUrl("/a/b", "/a%2fb", "x", False)),
        ("/a b", GoUrl("/a b", "/a b", "", False)),
        ("/pods?", GoUrl("/pods", "", "", True)),
        ("/pods??", GoUrl("/pods", "", "?", False)),
        ("//x//", GoUrl("//x//", "", "", False)),
    ],
)
def test_raw_path_is_set_where_the_escaping_is_not_the_default(target: str, url: GoUrl) -> None:
    assert parse_target(target) == url


def test_a_raw_path_counts_only_as_an_escaping_of_the_path() -> None:
    assert GoUrl("/a/b", "/a%2Fb", "", False).target == "/a%2Fb"
    assert GoUrl("/a b", "/a b", "", False).target == "/a%20b"
    assert GoUrl("/a", "/b", "", False).target == "/a"
    assert GoUrl("/\ufffd", "/%FF", "", False).target == "/%EF%BF%BD"


@pytest.mark.parametrize("target", ["", "*", "x", "http://host/", "/%", "/%4", "/%zz", "/%FF"])
def test_what_json_or_go_can_not_hold_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"it is no path|its path"):
        parse_target(target)
