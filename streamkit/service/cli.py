"""What the command lines of both services share: flags, exit codes, how errors are told.

An error is one line, ``program: error CODE: sentence``, and where there is something to do about
it, a second one, ``hint: ...``. Exit codes are an interface.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from importlib import metadata
from typing import Any, NoReturn, TypeAlias

from streamkit.errors import CertError, ConfigError, StreamError
from streamkit.service.logs import DEBUG_VERBOSITY, DEFAULT_VERBOSITY, one_line

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Exit(IntEnum):
    """Exit codes. What a signal interrupted exits with 128 and the signal's number."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser that tells a wrong command line as every other error is told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        program = self.prog.partition(" ")[0]
        sys.stderr.write(f"{program}: error {ConfigError.code}: {message}\n")
        sys.stderr.write(f"hint: {self.prog} --help\n")
        raise SystemExit(Exit.USAGE)


def service_parser(
    program: str,
    description: str,
    *,
    config: str,
    serve: Callable[[argparse.Namespace], int],
    texts: Callable[[], tuple[str, str]],
) -> tuple[Parser, Commands]:
    """The command line of a service: ``serve``, which is also what flags without a command mean.

    ``config`` is the default path, ``serve`` gets the parsed flags and returns an exit code, and
    ``texts`` yields what ``--minconfig`` and ``--defaultconfig`` print. Further commands are added
    to what is returned besides the parser; each sets ``run`` to its function, as ``serve``'s does.
    """

    def run(args: argparse.Namespace) -> int:
        if args.version:
            sys.stdout.write(f"{program} {version()}\n")
        elif args.minconfig:
            sys.stdout.write(texts()[0])
        elif args.defaultconfig:
            sys.stdout.write(texts()[1])
        else:
            return serve(args)
        return Exit.OK

    parser = Parser(prog=program, description=description)
    parser.set_defaults(run=run)
    _add_flags(parser, config)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = commands.add_parser(
        "serve",
        help="run in the foreground; the same as no command at all",
        description=description,
        # The defaults are the outer parser's: others here would undo the flags before "serve".
        argument_default=argparse.SUPPRESS,
    )
    _add_flags(command, None)
    return parser, commands


def _add_flags(parser: Parser, config: str | None) -> None:
    """The flags of ``serve``; with ``config`` None they have no defaults."""

    def default(value: object) -> Any:
        return argparse.SUPPRESS if config is None else value

    parser.add_argument(
        "--config",
        metavar="FILE",
        default=default(config),
        help="the configuration file" + (f" ({config})" if config else ""),
    )
    parser.add_argument(
        "-v",
        "--v",
        dest="verbosity",
        metavar="N",
        type=_verbosity,
        default=default(DEFAULT_VERBOSITY),
        help=f"how much to log: {DEFAULT_VERBOSITY} life cycle and faults (default), "
        f"{DEBUG_VERBOSITY} each request and stack traces, 6 each message (never its content)",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=default("text"),
        help="a line for people or a JSON object for machines",
    )
    for flag, what in (
        ("--minconfig", "print a small configuration"),
        ("--defaultconfig", "print a configuration with every key"),
        ("--version", "print the version"),
    ):
        parser.add_argument(
            flag, action="store_true", default=default(False), help=f"{what} and exit"
        )


def _verbosity(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"should be a number from 0 on, not {text!r}")
    return int(text)


def version() -> str:
    """The version of the installed distribution, which both programs come from."""
    return metadata.version("cloudstream")


def run_command(parser: Parser, argv: Sequence[str] | None) -> int:
    """Parse the command line (None = the process's own) and do what it says; the exit code.

    No exception gets out except SystemExit, for ``--help`` and for a wrong command line.
    """
    args = parser.parse_args(argv)
    try:
        try:
            code: int = args.run(args)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left; what is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as error:
        return report(parser.prog, error, verbosity=args.verbosity)
    return code


def report(program: str, error: BaseException, *, verbosity: int) -> int:
    """Tell the error on stderr, a line for each problem in it; the exit code that it means.

    The members of an exception group are told one by one. A stack trace is shown only for what is
    not a StreamError, and only from verbosity 4 on.
    """
    code = Exit.FAILED
    for leaf in _leaves(error):
        if isinstance(leaf, StreamError):
            for line in str(leaf).splitlines():
                sys.stderr.write(f"{program}: error {leaf.code}: {line}\n")
            if leaf.hint:
                sys.stderr.write(f"hint: {leaf.hint}\n")
            if isinstance(leaf, CertError | ConfigError):
                code = Exit.CONFIG
            continue
        text = one_line(f"{type(leaf).__name__}: {leaf}")
        sys.stderr.write(f"{program}: internal error: {text}\n")
        if verbosity >= DEBUG_VERBOSITY:
            traceback.print_exception(leaf)
    return code


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows in aligned columns under their header, two spaces apart."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
