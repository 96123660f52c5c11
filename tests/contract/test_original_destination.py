"""What the router relies on in the kernel: DNAT hides the dialled address, and can be asked."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

TOOLS = ("unshare", "iptables", "ip")
NEEDS = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root"),
    pytest.mark.skipif(bool(NEEDS), reason=f"not installed: {', '.join(NEEDS)}"),
]

RULES = """
ip link set lo up
ip address add 10.9.9.9/32 dev lo
iptables -t nat -A OUTPUT -p tcp --dport 10351 -j DNAT --to-destination 127.0.0.1:10003
"""

PROGRAM = """
import socket
from cloudstream.router import dialled_address

for family in (socket.AF_INET, socket.AF_INET6):
    dual = family == socket.AF_INET6
    with (
        socket.create_server(("", 10003), family=family, dualstack_ipv6=dual) as server,
        socket.create_connection(("10.9.9.9", 10351), timeout=5),
        server.accept()[0] as accepted,
    ):
        print(dialled_address(accepted))
"""


def test_the_dialled_address_is_seen_through_dnat() -> None:
    script = f"set -e\n{RULES}\nexec {sys.executable} -c '{textwrap.dedent(PROGRAM)}'"
    done = subprocess.run(
        ("unshare", "--net", "sh", "-c", script),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["10.9.9.9"] * 2, "", 0)
