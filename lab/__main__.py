"""The lab's command line: ``python -m lab up|down|status|demo``."""

import argparse
import os
import signal
import sys

import grpc

from lab.demo import run_demo
from lab.environment import Environment
from lab.layout import Layout
from lab.programs import LabError
from streamkit.errors import StreamError


def main() -> int:
    """Run one command; 1 if it failed, with the reason on stderr, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the lab and leave it running")
    commands.add_parser("down", help="remove every trace of it")
    commands.add_parser("status", help="say which parts run")
    commands.add_parser("demo", help="start it, show kubectl at work, take it down")
    command = parser.parse_args().command
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    try:
        environment = Environment(Layout.from_environment(os.environ))
        if command == "demo":
            run_demo(environment)
        elif command == "status":
            for part, state in environment.status().items():
                print(f"{part:<13} {state}")
        else:
            getattr(environment, command)()
    except (LabError, StreamError) as error:
        hint = f" ({error.hint})" if isinstance(error, StreamError) and error.hint else ""
        print(f"lab: {error}{hint}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        details = getattr(error, "details", None)
        print(f"lab: containerd answered: {details() if details else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
