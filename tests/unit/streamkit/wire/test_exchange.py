import pytest

from streamkit.wire.exchange import RequestHead, ResponseHead, header_values, without_headers

HEADERS = (("Accept", "a"), ("X-One", "1"), ("ACCEPT", "b"))


def test_header_names_are_compared_without_case() -> None:
    assert header_values(HEADERS, "accept") == ["a", "b"]
    assert header_values(HEADERS, "x-two") == []
    assert without_headers(HEADERS, ("accept",)) == (("X-One", "1"),)
    assert without_headers(HEADERS, ()) == HEADERS


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/a%20b?c=d?e", "/a%20b", "c=d?e"), ("/a?", "/a", ""), ("/a", "/a", "")],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query: str) -> None:
    request = RequestHead("GET", target)
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((("Connection", "Upgrade"),), True),
        ((("connection", "keep-alive, UPGRADE"),), True),
        ((("Connection", "close"), ("Connection", "upgrade")), True),
        ((("Connection", "close"),), False),
        ((("Upgrade", "SPDY/3.1"),), False),
    ],
)
def test_an_upgrade_is_told_by_the_connection_header(
    headers: tuple[tuple[str, str], ...], expected: bool
) -> None:
    assert RequestHead("GET", "/", headers).is_upgrade is expected


def test_the_phrase_is_the_given_one_or_the_standard_one() -> None:
    assert ResponseHead(404).phrase == "Not Found"
    assert ResponseHead(404, reason="Nowhere").phrase == "Nowhere"
    assert ResponseHead(299).phrase == "Unknown"
