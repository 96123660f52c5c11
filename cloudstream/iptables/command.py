"""The command ``cloudstream iptables``."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from streamkit.service import logs
from streamkit.service.cli import Commands, Exit

if TYPE_CHECKING:
    from cloudstream.iptables.view import Scope

_HOST_IP = "HOST_IP"


def add_iptables(commands: Commands) -> None:
    """Add the command. Heavy imports wait until it runs."""
    command = commands.add_parser(
        "iptables",
        help="lead this host's connections to edge nodes to the cloud service",
        description="Keeps the chain TUNNEL-PORT of the table nat, and the jumps to it from OUTPUT "
        "and PREROUTING, as KubeEdge's record of kubelet ports wants them: connections to edge "
        "nodes go to the stream port of the cloud service that holds the node. Runs until it is "
        "stopped, on each host with an API server, in the host's own network.",
    )
    command.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="else the pod's service account"
    )
    command.add_argument(
        "--forward-port",
        "--forwardport",
        dest="forward_port",
        type=_port,
        default=10003,
        metavar="PORT",
        help="the stream port of the cloud services (10003)",
    )
    command.add_argument(
        "--mode",
        choices=("external", "internal"),
        default="external",
        help="external (default): on any host; internal: beside the cloud service, on whose host "
        "one of the record's addresses has to be",
    )
    command.add_argument(
        "--edge-ips",
        type=_scope,
        default="nodes",
        metavar="WHICH",
        help="which destinations are edge nodes: nodes (default) takes the internal addresses of "
        "the Nodes with the edge role, any every destination at the port, as KubeEdge does; or "
        "addresses and networks, with commas between",
    )
    command.add_argument(
        "--host-ip",
        default=os.environ.get(_HOST_IP, ""),
        metavar="ADDRESS",
        help=f"the host's address, to tell its network from a pod's (${_HOST_IP})",
    )
    command.add_argument(
        "--interval",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how often the rules are looked at (10)",
    )
    command.add_argument(
        "--admin-address",
        type=_address,
        metavar="HOST:PORT",
        help="where health and metrics are told, by plain HTTP (nowhere)",
    )
    once = command.add_mutually_exclusive_group()
    once.add_argument("--once", action="store_true", help="put the rules right and exit")
    once.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be changed; change nothing, and exit with 1 if it is anything",
    )
    once.add_argument("--cleanup", action="store_true", help="remove all of it and exit")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    logs.configure(args.verbosity, args.log_format)

    from cloudstream.iptables import service
    from streamkit.service.runner import run_service

    options = service.Options(
        kube_config=args.kubeconfig,
        stream_port=args.forward_port,
        is_internal=args.mode == "internal",
        scope=args.edge_ips,
        host_address=args.host_ip,
        interval=args.interval,
        admin_address=args.admin_address or "",
    )

    code = Exit.OK

    async def work() -> None:
        nonlocal code
        if args.cleanup:
            removed = await service.clean_up()
            sys.stdout.write(
                "removed the chain TUNNEL-PORT\n" if removed else "nothing to remove\n"
            )
        elif args.dry_run:
            text, is_any = await service.plan(options)
            sys.stdout.write(text)
            code = Exit.FAILED if is_any else Exit.OK
        elif args.once:
            await service.sync_once(options)
        else:
            await service.run(options)

    return run_service("cloudstream iptables", work, verbosity=args.verbosity) or code


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"should be a port, not {text!r}")
    return int(text)


def _address(text: str) -> str:
    from streamkit.service.config import split_address

    try:
        split_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"should be a number of seconds, not {text!r}")
    return seconds


def _scope(text: str) -> "Scope":
    from cloudstream.iptables.view import parse_scope

    try:
        return parse_scope(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
