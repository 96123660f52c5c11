"""The programs iptables and ip6tables: the only place that starts them."""

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass
from enum import IntEnum

from streamkit.errors import PacketFilterError

_LOCK_SECONDS = "5"
"""How long a program waits for others that change the rules at the same moment."""
_DEADLINE = 30.0
"""Seconds for one program to end."""
_PERMISSION = re.compile(r"permission denied|operation not permitted|must be root", re.IGNORECASE)


class Family(IntEnum):
    """The IP version."""

    V4 = 4
    V6 = 6


class NotPermitted(PacketFilterError):
    """The process may not look at the rules, or not change them."""


@dataclass(frozen=True, slots=True)
class Iptables:
    """One back end of iptables. ``name`` is its program for IPv4, as in ``iptables-nft``."""

    name: str
    backend: str
    """``nft`` or ``legacy``: which of the kernel's two rule sets it works on."""

    def program(self, family: Family, suffix: str = "") -> str:
        """The program's name for an IP version."""
        name = self.name if family is Family.V4 else self.name.replace("iptables", "ip6tables")
        return name + suffix

    async def saved(self, family: Family) -> str:
        """All tables. Reading them this way makes the kernel create none."""
        return await _run(self.program(family, "-save"))

    async def nat_rules(self, family: Family) -> str:
        """The table nat, as ``-S`` lists it."""
        return await _run(self.program(family), "-w", _LOCK_SECONDS, "-t", "nat", "-S")

    async def restore(self, family: Family, text: str) -> None:
        """Apply the text as one transaction; rules that it does not name stay as they are."""
        program = self.program(family, "-restore")
        await _run(program, "--noflush", "--wait", _LOCK_SECONDS, stdin=text)


async def installed() -> list[Iptables]:
    """The back ends on this host, the one that ``iptables`` itself stands for first.

    Raises PacketFilterError where there is none.
    """
    found: list[Iptables] = []
    if shutil.which("iptables"):
        version = await _run("iptables", "--version")
        backend = "nft" if "nf_tables" in version else "legacy"
        explicit = f"iptables-{backend}"
        found.append(Iptables(explicit if shutil.which(explicit) else "iptables", backend))
    for backend in ("nft", "legacy"):
        name = f"iptables-{backend}"
        if shutil.which(name) and all(each.backend != backend for each in found):
            found.append(Iptables(name, backend))
    if not found:
        raise PacketFilterError(
            "the program iptables is not installed", hint="install the package iptables"
        )
    return found


async def _run(*command: str, stdin: str = "") -> str:
    """What the program writes. Raises PacketFilterError with the program's own words."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError as error:
        raise PacketFilterError(
            f"the program {command[0]} is not installed", hint="install the package iptables"
        ) from error
    except OSError as error:
        raise PacketFilterError(f"{command[0]} can't be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(_DEADLINE):
            out, errors = await process.communicate(stdin.encode())
    except TimeoutError:
        raise PacketFilterError(
            f"{command[0]} did not end within {_DEADLINE:g} s",
            hint="another program may hold the lock on the rules: see fuser /run/xtables.lock",
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return out.decode(errors="replace")
    raise _failure(command[0], process.returncode or 0, errors.decode(errors="replace"))


def _failure(program: str, code: int, words: str) -> PacketFilterError:
    said = " ".join(words.split())
    if _PERMISSION.search(said):
        return NotPermitted(
            f"{program} is not permitted to change the rules of this network",
            hint="run as root, with the capability NET_ADMIN",
        )
    return PacketFilterError(f"{program} failed with exit code {code}: {said}")
