"""A cloud service that is stopped lets finite answers come to their end, and tells the rest."""

import asyncio
from pathlib import Path

from edgestream.kubelet.exchange import Exchange
from streamkit.wire.exchange import ResponseHead
from tests.integration.tunnel.test_end_to_end import SWITCH, get, read_body, read_head, upgrade
from tests.support.cloud import running_cloud
from tests.support.edge import connected_edge

TEXT = b"a line of a finite log\n" * 100_000


async def test_finite_answers_end_and_sessions_are_told(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def serve(exchange: Exchange) -> None:
        if "exec" in exchange.request.path:
            await exchange.send_head(SWITCH)
            await exchange.read()
            return
        await exchange.send_head(ResponseHead(200))
        for begin in range(0, len(TEXT), 50_000):
            await exchange.write(TEXT[begin : begin + 50_000])
        await may_end.wait()
        await exchange.write(b"the end\n")

    stop = asyncio.Event()
    stopped = asyncio.Event()

    async def service() -> None:
        async with running_cloud(tmp_path / "pki") as cloud:
            ready.set_result(cloud)
            await stop.wait()
        stopped.set()

    ready = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(service())
        cloud = await ready
        async with connected_edge(cloud, serve):
            log_reader, log_writer = await cloud.connect()
            log_writer.write(get("/containerLogs/default/pod/c"))
            _, headers = await read_head(log_reader)
            exec_reader, exec_writer = await cloud.connect()
            exec_writer.write(upgrade("/exec/default/pod/c?command=x&output=1"))
            await read_head(exec_reader)
            idle_reader, idle_writer = await cloud.connect()
            stop.set()
            body = asyncio.create_task(read_body(log_reader, headers))
            status = 0
            while status != 503:
                # The first answers may still come from before the stop.
                idle_writer.write(get("/exec/default/pod/c", "Connection: keep-alive"))
                status, refusal = await read_head(idle_reader)
                text = await read_body(idle_reader, refusal)
            assert b"the cloud service is stopping" in text
            assert not stopped.is_set()
            may_end.set()
            assert await body == TEXT + b"the end\n"
            async with asyncio.timeout(10):
                assert b"the session was lost" in await exec_reader.read()
                await stopped.wait()
            for writer in (log_writer, exec_writer, idle_writer):
                writer.close()
