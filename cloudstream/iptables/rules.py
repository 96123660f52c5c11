"""The rules as text: what they should be, what they are, what leads from one to the other.

Pure functions. The text is that of ``iptables -S`` and ``iptables-restore``.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

CHAIN = "TUNNEL-PORT"
COMMENT = "kubeedge tunnel port"
_HOOKS = ("OUTPUT", "PREROUTING")
_FIRST_KUBELET_PORT = 10350
"""The kubelet port of KubeEdge's first releases, which its guides had people lead away by hand."""
_BY_HAND = re.compile(
    r"-A (?:OUTPUT|PREROUTING) -p tcp -m tcp --dport (\d+) -j DNAT --to-destination .+:(\d+)"
)
_DNAT = re.compile(r"--dport (\d+) -j DNAT --to-destination .+:(\d+)$")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Forward:
    """Connections to that port go to that address's stream port."""

    port: int
    address: str


@dataclass(frozen=True, slots=True)
class FoundRules:
    """What the table nat holds of ours: ``-A`` lines, in their order."""

    has_chain: bool
    rules: tuple[str, ...]
    """Those in our chain."""
    jumps: tuple[str, ...]
    """Those elsewhere that lead there."""
    past: tuple[str, ...] = ()
    """Those elsewhere that look like what KubeEdge's guides had people add by hand."""


NOTHING = FoundRules(False, (), ())


def wanted_rules(
    forwards: Sequence[Forward], edges: Iterable[Network] | None, *, stream_port: int
) -> tuple[str, ...]:
    """The rules in the chain, for forwards and edge addresses of one IP version.

    ``edges`` None means any destination. All other traffic leaves the chain at its first rules,
    however many edge nodes there are.
    """
    destinations = [""] if edges is None else [f" -d {edge}" for edge in edges]
    if not forwards or not destinations:
        return ()
    ports = [forward.port for forward in forwards]
    first, last = min(ports), max(ports)
    span = str(first) if first == last else f"{first}:{last}"
    lines = [
        f"-A {CHAIN} ! -p tcp -j RETURN",
        f"-A {CHAIN} -p tcp -m tcp ! --dport {span} -j RETURN",
    ]
    for forward in forwards:
        address = f"[{forward.address}]" if ":" in forward.address else forward.address
        lines += [
            f"-A {CHAIN}{destination} -p tcp -m tcp --dport {forward.port}"
            f" -j DNAT --to-destination {address}:{stream_port}"
            for destination in destinations
        ]
    return tuple(lines)


def read_rules(listing: str) -> FoundRules:
    """Pick what is ours out of ``iptables -t nat -S`` or ``iptables-save -t nat``."""
    rules, jumps, past, has_chain = [], [], [], False
    for line in listing.splitlines():
        if _BY_HAND.fullmatch(line):
            past.append(line)
        if CHAIN not in line:
            continue
        words = shlex.split(line)
        if words[0] == f":{CHAIN}" or words[:2] == ["-N", CHAIN]:
            has_chain = True
        elif words[:2] == ["-A", CHAIN]:
            rules.append(line)
        elif words[0] == "-A" and _target(words) == CHAIN:
            jumps.append(line)
    return FoundRules(has_chain, tuple(rules), tuple(jumps), tuple(past))


def correction(found: FoundRules, wanted: Sequence[str]) -> str:
    """What ``iptables-restore --noflush`` has to read, as one transaction; empty if nothing.

    Rules ``by_hand`` go, for ours come after them. If anything is amiss with the jumps, all of them
    are replaced: should somebody else do the same at this moment, one of the two transactions fails
    as a whole, and no jump is there twice.
    """
    jumps = [f'-A {hook} -m comment --comment "{COMMENT}" -j {CHAIN}' for hook in _HOOKS]
    if not wanted and not found.has_chain:
        return ""
    are_jumps_right = sorted(map(_words, found.jumps)) == sorted(map(_words, jumps))
    are_rules_right = list(map(_words, found.rules)) == list(map(_words, wanted))
    outdated = [_deletion(line) for line in by_hand(found, wanted)]
    if are_jumps_right and are_rules_right and not outdated:
        return ""
    lines = [*outdated, *wanted]
    if not are_jumps_right:
        lines = [*map(_deletion, found.jumps), *lines, *jumps]
    return _transaction(f":{CHAIN} - [0:0]", *lines)


def by_hand(found: FoundRules, wanted: Sequence[str]) -> list[str]:
    """The rules that KubeEdge's guides had people add, and in whose place those wanted are.

    Such a rule sends every connection at a kubelet port to a stream port, whatever its destination.
    Only the ports of the rules that are wanted count, and the one that KubeEdge began with.
    """
    targets = [_DNAT.search(line) for line in wanted]
    ports = {target[1] for target in targets if target}
    stream_ports = {target[2] for target in targets if target}
    matches = [(line, _BY_HAND.fullmatch(line)) for line in found.past]
    return [
        line
        for line, match in matches
        if match and match[1] in ports | {str(_FIRST_KUBELET_PORT)} and match[2] in stream_ports
    ]


def removal(found: FoundRules, outdated: Sequence[str] = ()) -> str:
    """The transaction that leaves nothing of ours, nor what is ``outdated``; empty if nothing."""
    deletions = [_deletion(line) for line in outdated]
    if found.has_chain:
        jumps = map(_deletion, found.jumps)
        return _transaction(f":{CHAIN} - [0:0]", *deletions, *jumps, f"-X {CHAIN}")
    return _transaction(*deletions) if deletions else ""


def _transaction(*lines: str) -> str:
    return "\n".join(("*nat", *lines, "COMMIT", ""))


def _deletion(line: str) -> str:
    return line.replace("-A ", "-D ", 1)


def _words(line: str) -> list[str]:
    """The rule independent of how its words are quoted."""
    return shlex.split(line)


def _target(words: Sequence[str]) -> str:
    for option in ("-j", "-g"):
        if option in words[:-1]:
            return words[words.index(option) + 1]
    return ""
