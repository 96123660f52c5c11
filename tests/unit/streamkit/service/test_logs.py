"""Log lines: what is shown at which verbosity, their two formats, context, repeats."""

import json
import logging
from typing import Any

import pytest

from streamkit.service.logs import TRACE, ContextLogger, LogFormat, RepeatLimiter, configure

pytestmark = pytest.mark.usefixtures("restored_logging")

log = logging.getLogger("cloudstream.test")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


@pytest.mark.parametrize(
    ("verbosity", "own", "others"),
    [
        (0, ["info", "warning"], ["warning"]),
        (2, ["info", "warning"], ["warning"]),
        (4, ["debug", "info", "warning"], ["info", "warning"]),
        (6, ["trace", "debug", "info", "warning"], ["info", "warning"]),
        (10, ["trace", "debug", "info", "warning"], ["info", "warning"]),
    ],
)
@pytest.mark.parametrize("name", ["cloudstream.x", "edgestream", "streamkit.a.b"])
def test_what_is_shown(
    capsys: pytest.CaptureFixture[str], name: str, verbosity: int, own: list[str], others: list[str]
) -> None:
    configure(verbosity, "json")
    for logger in (logging.getLogger(name), logging.getLogger("websockets.client")):
        for level in (TRACE, logging.DEBUG, logging.INFO, logging.WARNING):
            logger.log(level, "x")
    shown = objects(capsys)
    assert [line["level"] for line in shown if line["logger"] == name] == own
    assert [line["level"] for line in shown if line["logger"] != name] == others


def test_configuring_again_replaces_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, "text")
    configure(2, "json")
    log.info("once")
    (line,) = objects(capsys)
    assert line["msg"] == "once"


def test_a_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, "text")
    log.info("node %s is there", "n1", extra={"node": "n1", "peer": "10.0.0.1:5", "why": "a b"})
    (line,) = lines(capsys)
    stamp, _, rest = line.partition(" ")
    assert stamp.endswith("Z")
    assert rest == ('INFO    cloudstream.test: node n1 is there node=n1 peer=10.0.0.1:5 why="a b"')


def test_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, "json")
    log.warning("ü %d", 5, extra={"conn": 7, "path": ("a",)})
    (line,) = objects(capsys)
    assert list(line) == ["ts", "level", "logger", "msg", "conn", "path"]
    assert line["ts"].endswith("Z")
    assert (line["level"], line["logger"]) == ("warning", "cloudstream.test")
    assert (line["msg"], line["conn"], line["path"]) == ("ü 5", 7, ["a"])


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_peer_can_not_forge_a_line(capsys: pytest.CaptureFixture[str], format: LogFormat) -> None:
    configure(2, format)
    log.info("from %s", "x\n2026-01-01T00:00:00Z \x1b[31m", extra={"node": "a\nb"})
    (line,) = lines(capsys)
    assert "\x1b" not in line


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_is_told_by_type_and_text_unless_stacks_are_wanted(
    capsys: pytest.CaptureFixture[str], format: LogFormat
) -> None:
    def fail() -> None:
        try:
            raise OSError("disk\nfull")
        except OSError:
            log.exception("broken")

    configure(2, format)
    fail()
    (line,) = lines(capsys)
    assert "broken" in line
    assert "OSError: disk\\nfull" in line
    assert "Traceback" not in line

    configure(4, format)
    fail()
    assert any("Traceback" in line for line in lines(capsys))


def test_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, "json")
    logging.getLogger("py.warnings").warning("%s", "old")
    assert [line["logger"] for line in objects(capsys)] == ["py.warnings"]


def test_context_goes_into_every_line_and_can_be_extended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(2, "json")
    node = ContextLogger(log, node="n1")
    channel = node.with_context(conn=7)
    node.info("a")
    channel.info("b", extra={"pod": "p"})
    channel.warning("c", extra={"conn": 8})
    shown = [
        {key: value for key, value in line.items() if key not in ("ts", "level", "logger")}
        for line in objects(capsys)
    ]
    assert shown == [
        {"msg": "a", "node": "n1"},
        {"msg": "b", "node": "n1", "conn": 7, "pod": "p"},
        {"msg": "c", "node": "n1", "conn": 8},
    ]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_repeats_are_counted_and_told_with_the_next_line() -> None:
    clock = Clock()
    limiter = RepeatLimiter(60.0, clock=clock)
    assert limiter.admit("a") == ""
    for _ in range(41):
        clock.now += 1
        assert limiter.admit("a") is None
    clock.now = 1060.0
    assert limiter.admit("a") == " (repeated 41 times in 60 s)"
    assert limiter.admit("a") is None
    clock.now = 1300.0
    assert limiter.admit("a") == " (repeated 1 times in 240 s)"
    clock.now = 1400.0
    assert limiter.admit("a") == ""


def test_lines_of_different_keys_do_not_hold_back_each_other() -> None:
    limiter = RepeatLimiter(60.0, clock=Clock())
    assert [limiter.admit(key) for key in ("a", "b", "a")] == ["", "", None]


def test_only_so_many_keys_are_remembered_the_latest_ones() -> None:
    limiter = RepeatLimiter(60.0, max_keys=2, clock=Clock())
    for key in ("a", "b", "c"):
        assert limiter.admit(key) == ""
    assert [limiter.admit(key) for key in ("b", "c", "a")] == [None, None, ""]
