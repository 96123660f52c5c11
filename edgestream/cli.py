"""The command ``edgestream``. What needs heavy imports imports them when it runs."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from streamkit.service import logs
from streamkit.service.certs_cli import add_certs
from streamkit.service.cli import run_command, service_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (None = the process's own) and return the exit code."""
    parser, commands = service_parser(
        "edgestream",
        "Answers kubelet requests (logs, exec, attach, port-forward, ...) on an edge node, through "
        "the tunnel that it dials to the cloud. Reads KubeEdge's edgecore.yaml.",
        config="/etc/kubeedge/config/edgecore.yaml",
        serve=_serve,
        texts=_texts,
    )
    add_certs(commands, issue=False)
    return run_command(parser, argv)


def _texts() -> tuple[str, str]:
    from edgestream.config import DEFAULT_CONFIG, MIN_CONFIG

    return MIN_CONFIG, DEFAULT_CONFIG


def _serve(args: argparse.Namespace) -> int:
    from edgestream.config import load

    logs.configure(args.verbosity, args.log_format)
    config = load(Path(args.config))

    from edgestream.service import run
    from streamkit.service.runner import run_service

    reload = asyncio.Event()
    return run_service(
        "edgestream",
        lambda: run(config, reload=reload),
        verbosity=args.verbosity,
        hung_up=reload.set,
    )
