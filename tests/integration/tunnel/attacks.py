"""What breaks v2's rules: from either side, from an edge, from a cloud."""

from collections.abc import Callable

import pytest

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import RequestHead, ResponseHead
from streamkit.wire.message import encode_message
from streamkit.wire.v2_message import Hello, V2Type, encode_hello, encode_open, encode_window
from tests.support.frames import BINARY, CONTINUATION, frame
from tests.support.v2_peers import RawPeer

EXEC = "/exec/default/web/c?command=x&input=1&output=1"
TO_NEIGHBOUR = "X-Forwarded-Uri: /api/v1/nodes/edge-2/proxy/pods"
SWITCH = ResponseHead(101, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
UPGRADE = RequestHead("POST", EXEC, (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")))
HEAD = b'{"status":101,"headers":[["Connection","Upgrade"],["Upgrade","SPDY/3.1"]]}'
WINDOW = 512 * 1024
UNKNOWN_IDS = range(1_000_000, 1_100_000)

Attack = Callable[[RawPeer], None]


def sends(*payloads: bytes) -> Attack:
    """Something that sends these messages."""

    def attack(peer: RawPeer) -> None:
        for payload in payloads:
            peer.send_message(payload)

    return attack


def message(kind: int, data: bytes = b"", channel_id: int = 1) -> bytes:
    return encode_message(channel_id, kind, data)


FLOOD = sends(message(V2Type.DATA, bytes(WINDOW + 1)))
HELLO = encode_hello(Hello("", 1000, 30))

FROM_EITHER: dict[str, tuple[Attack, str]] = {
    "nothing": (sends(b""), "an empty message arrived"),
    "a cut header": (sends(b"\x80"), "a message ends inside its header"),
    "an over-long integer": (
        sends(b"\x80" * 11 + b"\x00\x13"),
        "a message has an integer longer than 10 bytes",
    ),
    "an integer beyond 64 bits": (
        sends(b"\xff" * 9 + b"\x7f\x13"),
        "a message has an integer that does not fit 64 bits",
    ),
    "an unknown type": (sends(message(99)), "a message of type 99 has no place here"),
    "a type of v1": (sends(message(3, b"x")), "a message of type 3 has no place here"),
    "a second hello": (sends(HELLO), "a second hello came"),
    "data of the session": (
        sends(message(V2Type.DATA, b"x", 0)),
        "a message is about a channel or about the session, not both",
    ),
    "data beyond the window": (FLOOD, "data came beyond the window"),
    "an acknowledgement of what was never sent": (
        sends(encode_window(1, 1 << 40, 1 << 41)),
        "the peer acknowledges what was never sent",
    ),
    "half a window update": (
        sends(message(V2Type.WINDOW, b"\x05")),
        "a message ends inside its header",
    ),
    "a reset without JSON": (
        sends(message(V2Type.RESET, b"rubbish")),
        "a message holds no JSON where it should",
    ),
    "JSON of a hundred thousand lists": (
        sends(message(V2Type.RESET, b"[" * 100_000)),
        "a message holds no JSON where it should",
    ),
    "two ends": (
        sends(message(V2Type.END), message(V2Type.END)),
        "an end came before a channel's opening or twice",
    ),
}

FROM_EDGE = {
    **FROM_EITHER,
    "an open": (
        sends(encode_open(9, RequestHead("GET", "/pods"))),
        "a message of type 17 has no place here",
    ),
    "a second head": (sends(message(V2Type.HEAD, HEAD)), "a channel was opened twice"),
    "a head that would split the answer": (
        sends(message(V2Type.HEAD, b'{"status":200,"reason":"OK\\r\\nX: y"}', 77)),
        "a head can't be used: its reason phrase is none",
    ),
}

FROM_CLOUD = {
    **FROM_EITHER,
    "a head": (sends(message(V2Type.HEAD, HEAD)), "a message of type 18 has no place here"),
    "an open of an open channel": (
        sends(encode_open(1, UPGRADE)),
        "a channel id was used twice",
    ),
    "an open with a URL": (
        sends(message(V2Type.OPEN, b'{"method":"GET","target":"http://127.0.0.1/"}', 9)),
        "an open can't be used: its target is no path",
    ),
}

NO_HELLOS: dict[str, tuple[Attack, str]] = {
    "data": (sends(message(V2Type.DATA, b"x")), "a message came before the hello"),
    "rubbish": (
        sends(message(V2Type.HELLO, b"rubbish", 0)),
        "a message holds no JSON where it should",
    ),
    "an empty object": (
        sends(message(V2Type.HELLO, b"{}", 0)),
        "a hello lacks something or has it wrong",
    ),
}


def endless_fragments(*, masked: bool) -> bytes:
    """A message that is larger than allowed before its last fragment comes."""
    return b"".join(
        frame(opcode, bytes(1 << 20), fin=False, masked=masked)
        for opcode in (BINARY, CONTINUATION, CONTINUATION)
    )


def each(attacks: dict[str, tuple[Attack, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("attack", "sentence"), attacks.values(), ids=attacks.keys())


async def echo(exchange: Exchange) -> None:
    await exchange.send_head(SWITCH if exchange.request.is_upgrade else ResponseHead(200))
    while data := await exchange.read():
        await exchange.write(data)
