from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import IncompleteAnswer, RemoteProtocolError
from streamkit.http.answer import LAST_CHUNK, MAX_HEAD, AnswerDecoder, AnswerEncoder, encode_chunk
from streamkit.wire.exchange import Headers, RequestHead, ResponseHead

GET = RequestHead("GET", "/x")
HEAD = RequestHead("HEAD", "/x")
UPGRADE = RequestHead("POST", "/x", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n\r\n"

Found = tuple[list[ResponseHead], bytes]

BODY = "\u00e9 one\r\ntwo\n\0".encode() * 5
CHUNKS = b"".join((encode_chunk(BODY[:7]), encode_chunk(BODY[7:])))

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
"""What kubelets answer, the whole of it, and how it reads."""
ANSWERS = {
    "content-length": (
        GET,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
        BODY,
    ),
    "chunked": (
        GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + LAST_CHUNK,
        BODY,
    ),
    "chunked with extension and trailer": (
        GET,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX: y\r\n\r\n",
        b"abc",
    ),
    "until close": (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY, BODY),
    "HTTP/1.0": (GET, b"HTTP/1.0 200 OK\r\n\r\n" + BODY, BODY),
    "after a 100": (
        GET,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        b"no",
    ),
    "no reason phrase": (GET, b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", b""),
    "204": (GET, b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "HEAD": (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b""),
    "refused upgrade": (
        UPGRADE,
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope",
        b"nope",
    ),
    "switch": (UPGRADE, SWITCH + BODY, BODY),
    "switch, nothing behind": (UPGRADE, SWITCH, b""),
}
SELF_DELIMITED = sorted(set(ANSWERS) - {"until close", "HTTP/1.0", "switch"})


def read(decoder: AnswerDecoder, pieces: list[bytes]) -> Found:
    heads, body = [], b""
    for number in range(len(pieces) + 1):
        at_end = number == len(pieces)
        for item in decoder.feed_eof() if at_end else decoder.feed(memoryview(pieces[number])):
            if isinstance(item, ResponseHead):
                heads.append(item)
            else:
                body += item
    return heads, body


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@pytest.mark.parametrize("name", ANSWERS)
@given(data=st.data())
def test_any_split_reads_the_same(name: str, data: st.DataObject) -> None:
    request, raw, body = ANSWERS[name]
    at = data.draw(st.lists(st.integers(0, len(raw)), max_size=8) | st.just(list(range(len(raw)))))
    decoder = AnswerDecoder(request)
    heads, found = read(decoder, cut(raw, at))
    assert found == body
    assert len(heads) == 1
    assert heads == read(AnswerDecoder(request), [raw])[0]
    assert decoder.is_complete


def test_the_head_is_as_received() -> None:
    raw = b"HTTP/1.1 299 Odd One\r\nX-a: 1\r\nx-A: caf\xe9\r\nContent-Length: 0\r\n\r\n"
    heads, _ = read(AnswerDecoder(GET), [raw])
    headers = (("X-a", "1"), ("x-A", "caf\u00e9"), ("Content-Length", "0"))
    assert heads == [ResponseHead(299, headers, "Odd One")]


@pytest.mark.parametrize("name", SELF_DELIMITED)
def test_a_cut_answer_is_never_taken_for_a_whole_one(name: str) -> None:
    request, raw, _ = ANSWERS[name]
    for size in range(len(raw)):
        decoder = AnswerDecoder(request)
        with pytest.raises(IncompleteAnswer, match="broke off"):
            read(decoder, [raw[:size]] if size else [])
        assert not decoder.is_complete


@pytest.mark.parametrize("name", sorted(set(SELF_DELIMITED) - {"switch, nothing behind"}))
def test_completeness_shows_with_the_last_byte(name: str) -> None:
    request, raw, _ = ANSWERS[name]
    decoder = AnswerDecoder(request)
    seen = []
    for piece in (raw[:-1], raw[-1:]):
        decoder.feed(piece)
        seen.append(decoder.is_complete)
    assert seen == [False, True]
    assert decoder.feed(b"surplus") == []
    assert decoder.feed_eof() == []


def test_bytes_behind_a_101_pass_untouched() -> None:
    decoder = AnswerDecoder(UPGRADE)
    head, early = decoder.feed(SWITCH + b"HTTP/1.1 200 OK\r\n\r\n")
    assert isinstance(head, ResponseHead)
    assert head.status == 101
    assert early == b"HTTP/1.1 200 OK\r\n\r\n"
    piece = memoryview(b"\0\xff")
    assert decoder.feed(piece) == [piece]
    assert not decoder.is_complete
    assert decoder.feed_eof() == []
    assert decoder.is_complete


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD + 1),
        SWITCH,
    ],
    ids=["ssh", "tls", "length", "chunk", "endless head", "unasked switch"],
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="the edge's answer is no HTTP"):
        AnswerDecoder(GET).feed(raw)


def encoded(request: RequestHead, head: ResponseHead, pieces: list[bytes]) -> bytes:
    encoder = AnswerEncoder(request)
    parts = [encoder.head(head), *(encoder.data(piece) for piece in pieces), encoder.end()]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("request_head", "head", "pieces", "expected"),
    [
        (
            GET,
            ResponseHead(200, (("X-A", "b"),)),
            [b"ab", b"", b"c"],
            OK + b"X-A: b\r\n" + CHUNKED + CLOSE + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        (
            GET,
            ResponseHead(500, (("content-length", "2"), ("Connection", "x")), "Bad"),
            [b"no"],
            b"HTTP/1.1 500 Bad\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
        ),
        (
            HEAD,
            ResponseHead(200),
            [b"dropped"],
            OK + CHUNKED + CLOSE,
        ),
        (
            HEAD,
            ResponseHead(200, (("Content-Length", "7"),)),
            [b"dropped"],
            OK + b"Content-Length: 7\r\n" + CLOSE,
        ),
        (
            GET,
            ResponseHead(204),
            [b"dropped"],
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        ),
        (
            UPGRADE,
            ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))),
            [b"raw", b"bytes"],
            SWITCH + b"rawbytes",
        ),
    ],
    ids=["chunked", "length", "HEAD", "HEAD with length", "204", "101"],
)
def test_encodes_the_framing_that_fits(
    request_head: RequestHead, head: ResponseHead, pieces: list[bytes], expected: bytes
) -> None:
    assert encoded(request_head, head, pieces) == expected


HEADERS: st.SearchStrategy[Headers] = st.lists(
    st.tuples(st.sampled_from(["X-One", "Content-Type"]), st.text("ab, \u00e9/;", max_size=9)),
    max_size=3,
).map(lambda lines: tuple((name, value.strip(" ")) for name, value in lines))


@given(
    st.sampled_from([200, 201, 400, 404, 500, 503]),
    HEADERS,
    st.lists(st.binary(max_size=50), max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_what_is_encoded_is_decoded(
    status: int, headers: Headers, pieces: list[bytes], has_length: bool, at: list[int]
) -> None:
    body = b"".join(pieces)
    length: Headers = (("Content-Length", str(len(body))),) if has_length else ()
    raw = encoded(GET, ResponseHead(status, headers + length), pieces)
    heads, found = read(AnswerDecoder(GET), cut(raw, [place for place in at if place < len(raw)]))
    assert found == body
    (head,) = heads
    assert (head.status, head.headers[: len(headers)]) == (status, headers)
