"""The recorded requests of ``tests/wire/recordings``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.spdy import SpdyFrame, parse_all

_DIRECTORY = Path(__file__).parents[2] / "wire" / "recordings"


@dataclass(frozen=True, slots=True)
class Recording:
    """One request to a kubelet, and what its sender did with it."""

    command: str
    """What was typed."""
    head: bytes
    """The request's head as it came, but for addresses and names."""
    body: bytes
    frames: tuple[SpdyFrame, ...]
    """What came once the connection was upgraded: the first frames."""
    code: int | None
    """The exit code of a command that came to its end."""

    @property
    def method(self) -> str:
        return self.head.split()[0].decode()

    @property
    def target(self) -> str:
        return self.head.split()[1].decode()

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def upgrade(self) -> str:
        """``SPDY/3.1``, ``websocket`` or nothing."""
        return self.header("Upgrade")

    def header(self, name: str) -> str:
        """The first line of that header."""
        lines = self.head.decode().split("\r\n")
        return next((line.split(": ", 1)[1] for line in lines if line.startswith(f"{name}:")), "")


def load(kind: str) -> list[Recording]:
    """All of one file: ``logs``, ``exec``, ``attach``, ``port-forward`` or ``node-proxy``."""
    return [_recording(row) for row in load_rows(kind)]


def load_rows(name: str) -> list[dict[str, Any]]:
    """The lines of a file as they stand."""
    lines = (_DIRECTORY / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _recording(row: dict[str, Any]) -> Recording:
    code = row.get("code")
    return Recording(
        command=str(row["command"]),
        head=str(row["head"]).encode(),
        body=str(row.get("body", "")).encode(),
        frames=tuple(parse_all(bytes.fromhex(str(row.get("frames", ""))))),
        code=code if isinstance(code, int) else None,
    )
