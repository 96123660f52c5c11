import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from streamkit.session.kernel import bound_unsent, progress
from tests.contract.loops import LoopFactory, on_both_loops, run
from tests.support.wait import until


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamWriter, socket.socket]]:
    """One end of a connection as an event loop has it, and the other as a plain socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _, writer = await asyncio.open_connection(*listening.getsockname())
        other, _ = listening.accept()
        with other:
            yield writer, other
            writer.close()
            await writer.wait_closed()


@on_both_loops
def test_progress_counts_what_has_crossed(loop_factory: LoopFactory) -> None:
    async def work() -> None:
        async with connected() as (writer, other):
            sock = writer.get_extra_info("socket")
            acknowledged, received = progress(sock)
            writer.write(bytes(5000))
            other.sendall(bytes(300))
            await until(lambda: progress(sock) == (acknowledged + 5000, received + 300))

    run(loop_factory, work())


@on_both_loops
def test_little_is_left_unsent(loop_factory: LoopFactory) -> None:
    async def work() -> None:
        async with connected() as (writer, _):
            sock = writer.get_extra_info("socket")
            bound_unsent(sock, 4096)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, 25) == 4096

    run(loop_factory, work())


@pytest.mark.parametrize("info", [b"", bytes(104), OSError("no such option")])
def test_a_kernel_that_does_not_count_says_nothing(info: bytes | OSError) -> None:
    class Socket:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            if isinstance(info, OSError):
                raise info
            return info

    assert progress(Socket()) == (0, 0)
