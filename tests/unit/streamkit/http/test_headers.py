"""What is about one connection only is not passed on."""

from streamkit.http.headers import HOP_BY_HOP, end_to_end


def test_lines_of_the_connection_are_left_out_in_any_spelling() -> None:
    own = tuple((name.title(), "x") for name in HOP_BY_HOP)
    assert end_to_end((("Date", "now"), *own, ("X-One", "1"), ("x-one", "2"))) == (
        ("Date", "now"),
        ("X-One", "1"),
        ("x-one", "2"),
    )


def test_lines_that_the_connection_names_are_left_out_too() -> None:
    headers = (
        ("Connection", "close, X-Hop"),
        ("connection", " x-other "),
        ("X-Hop", "1"),
        ("X-Other", "2"),
        ("X-End", "3"),
    )
    assert end_to_end(headers) == (("X-End", "3"),)
