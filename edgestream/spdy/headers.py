"""Blocks of headers: names and values with their lengths, compressed from frame to frame.

All blocks of one direction are one zlib stream, flushed at each block's end, which both ends begin
with the same dictionary. So blocks have to be read in order, and none may be left out.
"""

import struct
import zlib
from collections.abc import Mapping

from streamkit.errors import BadRequest

MAX_BLOCK = 1 << 16
"""Bytes of a block once it is decompressed."""

_LENGTH = struct.Struct(">I")
_LEVEL = 9

_NAMES = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language"
    "|accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding"
    "|content-language|content-length|content-location|content-md5|content-range|content-type|date"
    "|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range"
    "|if-unmodified-since|last-modified|location|max-forwards|pragma|proxy-authenticate"
    "|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade"
    "|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url"
    "|public|set-cookie|keep-alive|origin"
)
_WORDS = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, "
    "Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _with_length(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text


DICTIONARY = b"".join(_with_length(name.encode()) for name in _NAMES.split("|")) + _WORDS.encode()
"""What SPDY/3 has both ends know of headers beforehand."""


class HeaderWriter:
    """The blocks of one direction, to be sent in the order in which they were written."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(_LEVEL, zdict=DICTIONARY)

    def write(self, headers: Mapping[str, str]) -> bytes:
        """The headers' block; names have to be in lower case."""
        parts = [_LENGTH.pack(len(headers))]
        for name, value in headers.items():
            parts += (_with_length(name.encode()), _with_length(value.encode()))
        return self._stream.compress(b"".join(parts)) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """The blocks of one direction, to be read in the order in which they came."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zdict=DICTIONARY)

    def read(self, block: bytes) -> dict[str, str]:
        """The block's headers, their names in lower case. Raises BadRequest if it is broken."""
        try:
            plain = self._stream.decompress(block, MAX_BLOCK)
            if self._stream.unconsumed_tail:
                raise BadRequest(f"the caller's SPDY headers have more than {MAX_BLOCK} bytes")
            return _parse(plain)
        except (zlib.error, ValueError, struct.error) as error:
            raise BadRequest("the caller's SPDY headers can't be read") from error


def _parse(plain: bytes) -> dict[str, str]:
    (count,) = _LENGTH.unpack_from(plain)
    position, texts = _LENGTH.size, list[str]()
    for _ in range(2 * count):
        (size,) = _LENGTH.unpack_from(plain, position)
        position += _LENGTH.size
        if size > len(plain) - position:
            raise ValueError("a name or value is cut")
        texts.append(plain[position : position + size].decode())
        position += size
    return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
