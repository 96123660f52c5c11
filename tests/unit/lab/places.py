"""Places for labs of a test's own."""

import socket
from pathlib import Path

from lab.layout import Layout


def free_layout(directory: Path) -> Layout:
    """A lab in that directory, with ports that nobody has."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        ports = []
        for probe in (one, two, three):
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    return Layout(directory, *ports)
