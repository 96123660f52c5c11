"""Network errors in the words of Go, which a kubelet's users know."""

import os


def reason(error: OSError) -> str:
    """What the system says; where it is no system that speaks, a name was not found."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "no such host"


def endpoint(address: str, port: int) -> str:
    """An address with its port."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
