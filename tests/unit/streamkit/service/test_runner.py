"""Running a service: how it ends, by itself, by an error, by a signal."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from streamkit.errors import CertInvalid, TunnelClosed
from streamkit.service.runner import run_service


def run(main: Callable[[], Awaitable[None]], *, verbosity: int = 2) -> int:
    return run_service("demo", main, verbosity=verbosity)


def failing(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def main() -> None:
        raise error

    return main


def test_a_service_that_ends_by_itself() -> None:
    ran = []

    async def main() -> None:
        ran.append(asyncio.get_running_loop())

    assert run(main) == 0
    assert ran[0].is_closed()


def test_signal_handlers_are_as_before_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    run(failing(TunnelClosed("x")))
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (TunnelClosed("the tunnel ended"), 1, "demo: error KS2001: the tunnel ended"),
        (CertInvalid("x.crt is none"), 3, "demo: error KS6002: x.crt is none"),
        (
            ExceptionGroup("unhandled errors", [TunnelClosed("the tunnel ended")]),
            1,
            "demo: error KS2001: the tunnel ended",
        ),
        (RuntimeError("boom"), 1, "demo: internal error: RuntimeError: boom"),
    ],
)
def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    assert run(failing(error)) == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_what_the_loop_reports_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for message, error in (
            ("a callback failed", RuntimeError("boom")),
            ("a library is careless", ConnectionResetError),
            ("SSL handshake failed", ConnectionResetError()),
        ):
            loop.call_exception_handler({"message": message, "exception": error})

    assert run(main) == 0
    assert caplog.messages == ["a callback failed", "a library is careless"]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]


def test_a_stack_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(RuntimeError("boom")), verbosity=4) == 1
    assert "Traceback" in capsys.readouterr().err


def test_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[str] = []

    async def main() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)

    pytest.importorskip("uvloop")
    assert run_service("demo", main, verbosity=2, uvloop=True) == 0
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_service("demo", main, verbosity=2, uvloop=True) == 0
    assert loops[0].startswith("uvloop")
    assert loops[1].startswith("asyncio")


PRELUDE = """
import asyncio, sys
from streamkit.errors import TunnelClosed
from streamkit.service.runner import run_service

def say(word):
    print(word, flush=True)
"""

GRACEFUL = """
async def main():
    try:
        say("running")
        await asyncio.Event().wait()
    finally:
        say("closing")
        await asyncio.sleep(0)
        say("closed")
"""

STUCK = """
async def main():
    try:
        say("running")
        await asyncio.Event().wait()
    finally:
        say("closing")
        while True:  # the loop itself hangs
            pass
"""

FAILING = """
async def main():
    try:
        say("running")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise TunnelClosed("a node was cut off")
"""


class Demo:
    """A process that runs one of the services above."""

    def __init__(self, main: str, *, uvloop: bool) -> None:
        options = f'verbosity=2, hung_up=lambda: say("hung up"), uvloop={uvloop}'
        start = f'sys.exit(run_service("demo", main, {options}))'
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + main + start],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Demo":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)

    def expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=20)
        assert out == ""
        return self.process.returncode, err


@pytest.mark.parametrize("uvloop", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_service_close(number: signal.Signals, code: int, uvloop: bool) -> None:
    with Demo(GRACEFUL, uvloop=uvloop) as demo:
        demo.expect("running")
        demo.process.send_signal(number)
        demo.expect("closing")
        demo.expect("closed")
        assert demo.end() == (code, "")


@pytest.mark.parametrize("uvloop", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130)],
)
def test_a_second_signal_exits_at_once_even_if_the_loop_hangs(
    first: signal.Signals, second: signal.Signals, code: int, uvloop: bool
) -> None:
    with Demo(STUCK, uvloop=uvloop) as demo:
        demo.expect("running")
        demo.process.send_signal(first)
        demo.expect("closing")
        demo.process.send_signal(second)
        assert demo.end() == (code, "")


@pytest.mark.parametrize("uvloop", [False, True])
def test_a_hangup_ends_nothing(uvloop: bool) -> None:
    with Demo(GRACEFUL, uvloop=uvloop) as demo:
        demo.expect("running")
        for _ in range(2):
            demo.process.send_signal(signal.SIGHUP)
            demo.expect("hung up")
        demo.process.send_signal(signal.SIGTERM)
        demo.expect("closing")
        demo.expect("closed")
        assert demo.end() == (143, "")


def test_an_error_while_closing_is_told() -> None:
    with Demo(FAILING, uvloop=False) as demo:
        demo.expect("running")
        demo.process.send_signal(signal.SIGTERM)
        assert demo.end() == (1, "demo: error KS2001: a node was cut off\n")
