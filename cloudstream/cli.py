"""The command ``cloudstream``. What needs heavy imports imports them when it runs."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from cloudstream.iptables.command import add_iptables
from streamkit.service import logs
from streamkit.service.certs_cli import add_certs
from streamkit.service.cli import run_command, service_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (None = the process's own) and return the exit code."""
    parser, commands = service_parser(
        "cloudstream",
        "Carries the API servers' kubelet requests (logs, exec, attach, port-forward, ...) to edge "
        "nodes that no API server can reach. Reads KubeEdge's cloudcore.yaml.",
        config="/etc/kubeedge/config/cloudcore.yaml",
        serve=_serve,
        texts=_texts,
    )
    add_certs(commands, issue=True)
    add_iptables(commands)
    return run_command(parser, argv)


def _texts() -> tuple[str, str]:
    from cloudstream.config import DEFAULT_CONFIG, MIN_CONFIG

    return MIN_CONFIG, DEFAULT_CONFIG


def _serve(args: argparse.Namespace) -> int:
    from cloudstream.config import load

    logs.configure(args.verbosity, args.log_format)
    config = load(Path(args.config))

    from cloudstream.service import run
    from streamkit.service.runner import run_service

    reload = asyncio.Event()
    return run_service(
        "cloudstream",
        lambda: run(config, reload=reload),
        verbosity=args.verbosity,
        hung_up=reload.set,
        uvloop=True,
    )
