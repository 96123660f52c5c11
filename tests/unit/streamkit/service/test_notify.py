"""The datagrams that a service manager gets."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.service.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


def received(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_what_is_told(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.ready()
    assert received(manager) == ["READY=1"]
    notifier.ready("serving\n3  nodes")
    assert received(manager) == ["READY=1", "STATUS=serving 3 nodes"]
    notifier.status("connected to cloud.example")
    assert received(manager) == ["STATUS=connected to cloud.example"]
    notifier.alive()
    assert received(manager) == ["WATCHDOG=1"]
    notifier.stopping("draining")
    assert received(manager) == ["STOPPING=1", "STATUS=draining"]
    notifier.reloading()
    first, second = received(manager)
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0


def test_an_empty_status_is_not_sent(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.status("")
    notifier.alive()
    assert received(manager) == ["WATCHDOG=1"]


def test_abstract_addresses_work() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0streamkit-test-{os.getpid()}")
        receiver.settimeout(5)
        Notifier(f"@streamkit-test-{os.getpid()}").ready()
        assert received(receiver) == ["READY=1"]


def test_without_a_manager_nothing_happens() -> None:
    Notifier().ready()
    assert Notifier.from_environment({}).watchdog_interval is None


@pytest.mark.parametrize("address", ["/nowhere/notify", "/" + "x" * 200])
def test_a_manager_that_is_away_harms_nobody(address: str) -> None:
    notifier = Notifier(address)
    notifier.ready()
    notifier.stopping()
    assert notifier.watchdog_interval is None


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    for _ in range(10_000):
        notifier.alive()
    assert received(manager) == ["WATCHDOG=1"]


def test_the_variables_are_taken_out_of_the_environment() -> None:
    environment = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    notifier = Notifier.from_environment(environment)
    assert environment == {"HOME": "/root"}
    assert notifier.watchdog_interval == 15.0


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whom_the_watchdog_watches(variables: dict[str, str], interval: float | None) -> None:
    assert Notifier.from_environment(dict(variables)).watchdog_interval == interval


async def test_signs_of_life_come_while_the_service_is_alive(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname(), watchdog_interval=0.001)
    answers = iter([True, False, True])
    asked_out = asyncio.Event()

    def is_alive() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked_out.set()
        return bool(answer)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        keeper = group.create_task(notifier.keep_alive(is_alive))
        await asked_out.wait()
        keeper.cancel()
    manager.setblocking(False)
    assert [received(manager) for _ in range(2)] == [["WATCHDOG=1"]] * 2
    with pytest.raises(BlockingIOError):
        received(manager)


async def test_nobody_is_kept_alive_where_nobody_watches() -> None:
    async with asyncio.timeout(5):
        await Notifier().keep_alive(lambda: True)
