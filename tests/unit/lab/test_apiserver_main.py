"""The stand-in as a program."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lab.apiserver.__main__ import main
from tests.unit.lab.apiserver_kit import (
    LIMIT,
    Exchange,
    Keys,
    edge_config,
    fake_kubelet,
    raw_client,
    rest_client,
)

LOG = "/api/v1/namespaces/default/pods/single/log?follow=true"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = "API server stand-in on "


@asynccontextmanager
async def program(config: Path) -> AsyncIterator[Any]:
    """Run it with its output in a pipe."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lab.apiserver", "--config", config, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_says_when_it_listens_and_ends_when_told_to(keys: Keys, tmp_path: Path) -> None:
    """Even with a client whose log is still being followed."""

    async def follow(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + b"6\r\nhello\n\r\n")
        assert await exchange.reader.read() == b""

    path = tmp_path / "apiserver.json"
    async with fake_kubelet(keys, follow) as kubelet:
        config = edge_config(keys, kubelet.port)
        path.write_text(config.model_dump_json(by_alias=True))
        async with asyncio.timeout(LIMIT), program(path) as process:
            line = (await process.stdout.readline()).decode()
            assert line.startswith(f"{LINE}https://127.0.0.1:")
            url = line.removeprefix(LINE).strip()
            async with rest_client(keys, url) as rest, raw_client(keys, url) as (reader, writer):
                assert (await rest.raw("GET", "/healthz"))[0] == 200
                writer.write(f"GET {LOG} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
                await reader.readuntil(b"hello\n")
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0


def test_a_configuration_that_cannot_be_used_is_told(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "apiserver.json"
    path.write_text(json.dumps({"listen": "nowhere"}))
    assert main(["--config", str(path)]) == 1
    assert "listen" in capsys.readouterr().err


def test_a_taken_address_is_told(keys: Keys, tmp_path: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "apiserver.json"
        config = edge_config(keys, 1, listen=address)
        path.write_text(config.model_dump_json(by_alias=True))
        assert main(["--config", str(path)]) == 1
    assert f"can't listen on {address}" in capsys.readouterr().err
