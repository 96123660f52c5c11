"""The shared command line: commands, flags, errors, exit codes."""

import argparse
import subprocess
import sys

import pytest

from streamkit.errors import (
    CertMissing,
    ConfigInvalid,
    NodeNotConnected,
    PodNotFound,
    PortInUse,
)
from streamkit.service.cli import report, run_command, service_parser, table, version

TEXTS = ("# small\n", "# whole\n")


class Service:
    """A service whose ``serve`` notes its flags and then does as told."""

    def __init__(self) -> None:
        self.args: argparse.Namespace | None = None
        self.outcome: int | BaseException = 0

    def serve(self, args: argparse.Namespace) -> int:
        self.args = args
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def __call__(self, *argv: str) -> int:
        parser, _ = service_parser(
            "demo", "A service.", config="/etc/demo.yaml", serve=self.serve, texts=lambda: TEXTS
        )
        return run_command(parser, argv)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.mark.parametrize(
    ("argv", "config", "verbosity", "log_format"),
    [
        ("", "/etc/demo.yaml", 2, "text"),
        ("serve", "/etc/demo.yaml", 2, "text"),
        ("--config /x", "/x", 2, "text"),
        ("serve --config /x -v 4", "/x", 4, "text"),
        ("--config=/x serve -v4", "/x", 4, "text"),
        ("-v 6 --log-format json serve", "/etc/demo.yaml", 6, "json"),
        ("--v=0", "/etc/demo.yaml", 0, "text"),
        ("-v=9 serve --log-format=json --config /y", "/y", 9, "json"),
        ("-v 1 serve -v 3", "/etc/demo.yaml", 3, "text"),
    ],
)
def test_flags_mean_serve_with_or_without_the_word(
    service: Service, argv: str, config: str, verbosity: int, log_format: str
) -> None:
    assert service(*argv.split()) == 0
    args = service.args
    assert args is not None
    assert (args.config, args.verbosity, args.log_format) == (config, verbosity, log_format)


@pytest.mark.parametrize("before", [[], ["serve"]])
@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--version", f"demo {version()}\n"),
        ("--minconfig", TEXTS[0]),
        ("--defaultconfig", TEXTS[1]),
    ],
)
def test_what_prints_and_exits(
    service: Service, capsys: pytest.CaptureFixture[str], before: list[str], flag: str, text: str
) -> None:
    assert service(*before, flag) == 0
    assert capsys.readouterr() == (text, "")
    assert service.args is None


@pytest.mark.parametrize(
    ("argv", "sentence", "helper"),
    [
        ("frobnicate", "invalid choice: 'frobnicate'", "demo"),
        ("--conf=/x", "unrecognized arguments: --conf", "demo"),
        ("serve --frob", "unrecognized arguments: --frob", "demo"),
        ("-v many", "should be a number from 0 on, not 'many'", "demo"),
        ("serve -v -1", "should be a number from 0 on, not '-1'", "demo serve"),
        ("--log-format xml", "invalid choice: 'xml'", "demo"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_a_hint(
    service: Service, capsys: pytest.CaptureFixture[str], argv: str, sentence: str, helper: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        service(*argv.split())
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, hint = captured.err.splitlines()
    assert error.startswith("demo: error KS7000: ")
    assert sentence in error
    assert hint == f"hint: {helper} --help"


@pytest.mark.parametrize("argv", [["--help"], ["serve", "--help"]])
def test_help_names_every_flag(
    service: Service, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        service(*argv)
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--config", "-v", "--log-format", "--minconfig", "--defaultconfig", "--version"):
        assert flag in shown


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            PodNotFound("there is no pod a/b"),
            1,
            ["demo: error KS4002: there is no pod a/b"],
        ),
        (
            NodeNotConnected("node n1 is away", hint="look there"),
            1,
            ["demo: error KS4004: node n1 is away", "hint: look there"],
        ),
        (CertMissing("x.crt is missing"), 3, ["demo: error KS6001: x.crt is missing"]),
        (PortInUse("port 1 is taken"), 3, ["demo: error KS7002: port 1 is taken"]),
        (
            ConfigInvalid("f:1:1: one\nf:2:1: two", hint="mend it"),
            3,
            ["demo: error KS7001: f:1:1: one", "demo: error KS7001: f:2:1: two", "hint: mend it"],
        ),
        (ValueError("a\nb"), 1, ["demo: internal error: ValueError: a\\nb"]),
        (KeyboardInterrupt(), 130, []),
        (
            ExceptionGroup("g", [CertMissing("x"), ExceptionGroup("h", [OSError("y")])]),
            3,
            ["demo: error KS6001: x", "demo: internal error: OSError: y"],
        ),
    ],
)
def test_errors_have_their_lines_and_their_exit_code(
    service: Service,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    service.outcome = error
    assert service() == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == lines


def test_an_exit_code_is_passed_on(service: Service) -> None:
    service.outcome = 143
    assert service() == 143


@pytest.mark.parametrize(("verbosity", "shown"), [(2, False), (3, False), (4, True), (9, True)])
def test_stacks_are_shown_on_request_and_never_of_our_own_faults(
    capsys: pytest.CaptureFixture[str], verbosity: int, shown: bool
) -> None:
    report("demo", ValueError("x"), verbosity=verbosity)
    report("demo", PodNotFound("y"), verbosity=verbosity)
    captured = capsys.readouterr().err
    assert captured.count("ValueError: x\n") == (2 if shown else 1)
    assert captured.count("PodNotFound") == 0


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = """
import sys
from streamkit.service.cli import run_command, service_parser

def serve(args):
    while True:
        sys.stdout.write("x")

parser, _ = service_parser("demo", "", config="", serve=serve, texts=None)
sys.exit(run_command(parser, []))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 1


def test_a_table_is_aligned_and_has_no_blanks_at_its_ends() -> None:
    text = table(("A", "NAME"), [("x", "y"), ("long", "z")])
    assert text == "A     NAME\nx     y\nlong  z\n"
