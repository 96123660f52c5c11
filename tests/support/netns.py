"""Network namespaces of a test's own, with real rules in them."""

import asyncio
import contextlib
import difflib
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

DEADLINE = 30.0
_NUMBERS = itertools.count(1)
_CHANGING = re.compile(r"^#.*\n|\[\d+:\d+\]", re.MULTILINE)
"""Comments with the time of day, and packet counters."""

PROGRAMS = [
    f"{version}tables{backend}{suffix}"
    for version in ("ip", "ip6")
    for backend in ("", "-nft", "-legacy")
    for suffix in ("", "-save", "-restore")
]

JUMP = '-m comment --comment "kubeedge tunnel port" -j TUNNEL-PORT'
"""What leads from ``OUTPUT`` and ``PREROUTING`` to our chain, as the programs list it."""

KUBE_PROXY = """\
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-X - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -p tcp -m comment --comment "a/b:c \\"d\\" $e" -m tcp --dport 443 -j KUBE-SVC-X
-A KUBE-SVC-X -m statistic --mode random --probability 0.50000000000 -j KUBE-MARK-MASQ
COMMIT
"""
DOCKER = """\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A OUTPUT -d 10.7.7.7/32 -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.7.7.8:10003
COMMIT
"""


class Namespace:
    """A network of its own, known to ``ip netns`` by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command in it."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command there to its end and return what it writes; a failure fails the test."""
        done = subprocess.run(
            self.command(*command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    async def start(self, *command: str) -> asyncio.subprocess.Process:
        """Start a command there; standard output and error are pipes."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.command(*command), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )

    def rules(self, backend: str) -> str:
        """All tables of both IP versions, without what changes by itself."""
        saved = [self.run(f"{version}tables-{backend}-save") for version in ("ip", "ip6")]
        return _CHANGING.sub("", "".join(saved))

    def restore(self, backend: str, text: str, *, version: str = "ip") -> None:
        """Add rules, beside those that are there."""
        self.run(f"{version}tables-{backend}-restore", "--noflush", stdin=text)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A new network for the length of the block, with its loopback up. Needs root."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("iptables"):
        pytest.skip("network namespaces need root, and the programs ip and iptables")
    name = f"cs-{os.getpid()}-{next(_NUMBERS)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=DEADLINE)
    try:
        found = Namespace(name)
        found.run("ip", "link", "set", "lo", "up")
        yield found
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=DEADLINE)


def difference(before: str, after: str) -> list[str]:
    """The lines that came (+) and went (-)."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def joined(one: Namespace, other: Namespace, link: str, addresses: Sequence[str]) -> None:
    """Lay a cable between two networks: interfaces ``link``, with an address at either end."""
    ends = [f"{link}a", f"{link}b"]
    one.run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    one.run("ip", "link", "set", ends[1], "netns", other.name)
    for place, end, address in zip((one, other), ends, addresses, strict=True):
        place.run("ip", "address", "add", address, "dev", end, "nodad")
        place.run("ip", "link", "set", end, "up")


def programs_within(place: Namespace, directory: Path, *, default: str) -> str:
    """A PATH whose iptables programs work in that network; ``default`` is what ``iptables`` is."""
    directory.mkdir()
    for program in PROGRAMS:
        version, _, rest = program.partition("tables")
        real = program
        if not rest.startswith(("-nft", "-legacy")):
            real = f"{version}tables-{default}{rest}"
        script = directory / program
        # By its path: the directory comes first where programs are looked for.
        path = shutil.which(real)
        script.write_text(f'#!/bin/sh\nexec ip netns exec {place.name} {path} "$@"\n')
        script.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"
