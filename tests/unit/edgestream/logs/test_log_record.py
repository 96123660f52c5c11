"""Records, and the sentence about one that is in no known format."""

import pytest

from edgestream.answers import KubeletAnswer
from edgestream.logs.failures import QUOTED_MAX, go_quote
from edgestream.logs.record import choose_parser, parse_cri, parse_docker

T = b"2024-05-01T10:00:00.1Z"


@pytest.mark.parametrize(
    ("line", "content"),
    [
        (b" stdout F text\n", b"text\n"),
        (b" stderr P text\n", b"text"),
        (b" stdout P:x text\n", b"text"),
        (b" stdout PX text\n", b"text\n"),
        (b" stdout  text\n", b"text\n"),
        (b" stdout F  a \n", b" a \n"),
        (b" stdout F \n", b"\n"),
        (b" stdout P \n", b""),
        (b" stdout F text", b"text"),
        (b" stdout F a\rb\n", b"a\rb\n"),
    ],
)
def test_cri_content(line: bytes, content: bytes) -> None:
    record = parse_cri(T + line)
    assert record is not None
    assert record.content == content


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"T\n",
        T + b"\n",
        T + b" stdout\n",
        T + b" stdout F\n",
        T + b" stdin F x\n",
        b" a b c",
    ],
)
def test_not_cri(line: bytes) -> None:
    assert parse_cri(line) is None


@pytest.mark.parametrize(
    ("line", "stream", "content"),
    [
        (b'{"log":"a\\n","stream":"stdout","time":"%b"}\n', b"stdout", b"a\n"),
        (b'{"Log":"a","STREAM":"stderr","time":"%b"}', b"stderr", b"a"),
        (b'{"log":null,"stream":"x","attrs":{},"time":"%b"}', b"x", b""),
        (b'{"log":"\\ud83d\\ude00 \\ud800","time":"%b"}', b"", "😀 \ufffd".encode()),
        (b'{"log":"\xff","time":"%b"}', b"", "\ufffd".encode()),
    ],
)
def test_docker(line: bytes, stream: bytes, content: bytes) -> None:
    record = parse_docker(line.replace(b"%b", T))
    assert record is not None
    assert (record.stream, record.content) == (stream, content)
    assert record.time == b"2024-05-01T10:00:00.100000000Z"


def test_docker_without_time() -> None:
    record = parse_docker(b"null")
    assert record is not None
    assert record.time == b"0001-01-01T00:00:00.000000000Z"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b"{} {}",
        b'{"log":1}',
        b'{"stream":[]}',
        b'{"time":1}',
        b'{"time":"soon"}',
        b"[" * 100_000,
    ],
)
def test_not_docker(line: bytes) -> None:
    assert parse_docker(line) is None


def test_format_is_chosen_by_first_record() -> None:
    assert choose_parser(T + b" stdout F x\n") is parse_cri
    assert choose_parser(b"{}\n") is parse_docker
    with pytest.raises(KubeletAnswer, match='unsupported log format: "x"'):
        choose_parser(b"x")


def test_huge_record_is_not_quoted_in_full() -> None:
    with pytest.raises(KubeletAnswer) as caught:
        choose_parser(b"x" * (QUOTED_MAX * 4))
    assert len(caught.value.body) < QUOTED_MAX + 100


@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        (b'a"b\\c', r'"a\"b\\c"'),
        (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        (b"\x00\x1b\x7f", r'"\x00\x1b\x7f"'),
        (b"\xff\xc3\x28", r'"\xff\xc3("'),
        ("é 世 😀".encode(), '"é 世 😀"'),
        ("\u00a0\u200b\u2028".encode(), r'"\u00a0\u200b\u2028"'),
        ("\U000e0001".encode(), r'"\U000e0001"'),
        ("\ufffd".encode(), '"\ufffd"'),
    ],
)
def test_go_quote(data: bytes, quoted: str) -> None:
    assert go_quote(data) == quoted
