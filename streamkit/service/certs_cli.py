"""The command ``certs``: issue a small PKI, show what certificates say."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamkit.errors import CertError, CertMissing
from streamkit.service.cli import Commands, Exit, table

if TYPE_CHECKING:
    from streamkit.pki.inspect import CertInfo

_HEADER = ("FILE", "ROLE", "SUBJECT", "NAMES", "EXPIRES", "RESIDUAL", "ISSUER", "KEY")
_KEY_WORDS = {True: "matches", False: "MISMATCH", None: "-"}


def add_certs(commands: Commands, *, issue: bool) -> None:
    """Add ``certs show`` and, where the CA's key may lie, ``certs issue``."""
    certs = commands.add_parser("certs", help="issue and show certificates")
    verbs = certs.add_subparsers(title="commands", metavar="COMMAND", required=True)
    if issue:
        _add_issue(verbs)
    _add_show(verbs)


def _add_issue(verbs: Commands) -> None:
    command = verbs.add_parser(
        "issue",
        help="make what is missing: CA, servers, API server client, edge nodes",
        description="Makes what is missing in the directory and keeps what is valid and right.",
    )
    command.add_argument("--dir", type=Path, required=True, help="where the files go")
    command.add_argument(
        "--node",
        metavar="NAME",
        action="append",
        default=[],
        help="an edge node to issue a client certificate for; may be repeated",
    )
    command.add_argument(
        "--san",
        metavar="NAME-OR-IP",
        action="append",
        default=[],
        help="a further name or address of the cloud, for its servers; may be repeated",
    )
    command.add_argument(
        "--days", type=_days, default=365, help="how long what is issued lasts (365)"
    )
    command.set_defaults(run=_issue)


def _add_show(verbs: Commands) -> None:
    command = verbs.add_parser(
        "show",
        help="say whose certificates these are, what for, until when, and whether the key fits",
        description="Shows all certificates of a file, or of a directory's .crt and .pem files.",
    )
    command.add_argument("paths", metavar="FILE-OR-DIR", type=Path, nargs="+")
    command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    command.set_defaults(run=_show)


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 36500:
        raise argparse.ArgumentTypeError(f"should be from 1 to 36500, not {text!r}")
    return int(text)


def _issue(args: argparse.Namespace) -> int:
    from streamkit.pki.issue import issue_all

    for issued in issue_all(args.dir, nodes=args.node, sans=args.san, days=args.days):
        sys.stdout.write(f"{'kept' if issued.kept else 'issued':<6}  {issued.path}\n")
    return Exit.OK


def _show(args: argparse.Namespace) -> int:
    """Show all that can be read, then tell what can't: one bad file hides no other."""
    from streamkit.pki.inspect import inspect_file

    infos: list[CertInfo] = []
    problems: list[CertError] = []
    for path in args.paths:
        files = _files(path)
        if not files:
            problems.append(CertMissing(f"{path} has no .crt and no .pem files"))
        for file in files:
            try:
                infos += inspect_file(file)
            except CertError as error:
                problems.append(error)
    now = datetime.now(UTC)
    if args.output == "json":
        sys.stdout.write(json.dumps(_document(infos, now), indent=2) + "\n")
    elif infos:
        sys.stdout.write(table(_HEADER, [_row(info, now) for info in infos]))
    if problems:
        raise ExceptionGroup("certificates that can't be shown", problems)
    return Exit.OK


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".crt", ".pem"))


def _row(info: "CertInfo", now: datetime) -> tuple[str, ...]:
    days = info.days_left(now)
    residual = "expired" if info.not_after < now else f"{days}d" if days else "<1d"
    return (
        str(info.path),
        info.role,
        info.subject,
        ",".join(info.sans) or "-",
        _time(info.not_after),
        residual,
        info.issuer,
        _KEY_WORDS[info.key_match],
    )


def _document(infos: Sequence["CertInfo"], now: datetime) -> dict[str, Any]:
    return {
        "apiVersion": "cloudstream/v1",
        "kind": "CertificateList",
        "items": [
            {
                "file": str(info.path),
                "role": info.role,
                "subject": info.subject,
                "issuer": info.issuer,
                "names": list(info.sans),
                "notBefore": _time(info.not_before),
                "notAfter": _time(info.not_after),
                "residualSeconds": int((info.not_after - now).total_seconds()),
                "purposes": list(info.purposes),
                "isCA": info.is_ca,
                "keyMatch": info.key_match,
                "sha256": info.fingerprint,
            }
            for info in infos
        ],
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
