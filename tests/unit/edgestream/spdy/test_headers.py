import zlib

import pytest

from edgestream.spdy.headers import DICTIONARY, MAX_BLOCK, HeaderReader, HeaderWriter
from streamkit.errors import BadRequest
from tests.unit.edgestream.spdy.recordings import CONTAINERD_REPLIES, KUBECTL, KUBECTL_HEADERS

BLOCKS = (KUBECTL[18:69], KUBECTL[95:109])


def test_the_dictionary_is_the_protocols() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_what_a_client_wrote() -> None:
    reader = HeaderReader()
    assert tuple(reader.read(block) for block in BLOCKS) == KUBECTL_HEADERS


def test_what_a_server_wrote() -> None:
    reader = HeaderReader()
    assert [reader.read(CONTAINERD_REPLIES[12:28]), reader.read(CONTAINERD_REPLIES[40:])] == [
        {},
        {},
    ]


def test_blocks_to_the_byte() -> None:
    writer = HeaderWriter()
    assert writer.write({})[:6] == bytes.fromhex("78f9e3c6a7c2")
    assert writer.write({})[-4:] == bytes.fromhex("0000ffff")


def test_blocks_build_on_each_other() -> None:
    writer, reader = HeaderWriter(), HeaderReader()
    headers = {"streamtype": "data", "port": "8080", "requestid": "17", "empty": ""}
    first, second = writer.write(headers), writer.write(headers)
    assert len(second) < len(first)
    assert [reader.read(first), reader.read(second)] == [headers, headers]


def test_names_are_read_in_lower_case() -> None:
    assert HeaderReader().read(HeaderWriter().write({"Port": "Eighty"})) == {"port": "Eighty"}


def compressed(plain: bytes) -> bytes:
    stream = zlib.compressobj(zdict=DICTIONARY)
    return stream.compress(plain) + stream.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"no zlib at all",
        compressed(b""),
        compressed(bytes.fromhex("00000001")),
        compressed(bytes.fromhex("00000001 00000001 61 00000002 62")),
        compressed(bytes.fromhex("00000001 00000001 ff 00000000")),
        compressed(bytes(MAX_BLOCK + 1)),
    ],
)
def test_broken_blocks(block: bytes) -> None:
    with pytest.raises(BadRequest):
        HeaderReader().read(block)
