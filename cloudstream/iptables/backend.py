"""Which of the kernel's two rule sets holds Kubernetes' own rules: ours have to be in the same."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudstream.iptables.tool import Family, Iptables, NotPermitted
from streamkit.errors import PacketFilterError

_KUBE_CHAIN = re.compile(r"^:KUBE-", re.MULTILINE)
_PROXY_CHAIN = re.compile(r"^:KUBE-(SERVICES|NODEPORTS) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The back end to work on, and the others, in which nothing of ours may be."""

    tool: Iptables
    others: tuple[Iptables, ...]
    reason: str
    """A sentence that says which one it is and why."""
    is_sure: bool
    """Whether Kubernetes' rules were found. Where none are yet, look again."""
    warning: str = ""


async def look_around(tools: Sequence[Iptables]) -> Choice:
    """Read the rules of all back ends and choose one.

    A back end that this kernel lacks is left out. Raises PacketFilterError where none can be read.
    """
    saved: dict[str, str] = {}
    errors: list[PacketFilterError] = []
    for tool in tools:
        try:
            saved[tool.backend] = await _all_rules(tool)
        except NotPermitted:
            raise
        except PacketFilterError as error:
            errors.append(error)
    if not saved:
        raise errors[0]
    return choose([tool for tool in tools if tool.backend in saved], saved)


def choose(tools: Sequence[Iptables], saved: Mapping[str, str]) -> Choice:
    """The back end with the ``KUBE-*`` chains; the first, the host's default, where none has any.

    Where both have some, it is the one with kube-proxy's. ``saved`` is what is in each back end.
    """
    holders = [tool for tool in tools if _KUBE_CHAIN.search(saved[tool.backend])]
    best = max(holders, key=lambda tool: _weight(saved[tool.backend]), default=tools[0])
    others = tuple(tool for tool in tools if tool is not best)
    if not holders:
        reason = f"{best.name}: it is this host's default, and there are no KUBE-* chains"
        return Choice(best, others, reason, is_sure=False)
    reason = f"{best.name}: it holds the KUBE-* chains"
    warning = ""
    if len(holders) > 1:
        warning = (
            f"KUBE-* chains are in both back ends of iptables; those outside of {best.name} look "
            "left over, and may still take effect"
        )
    return Choice(best, others, reason, is_sure=True, warning=warning)


def _weight(saved: str) -> tuple[int, int]:
    return len(_PROXY_CHAIN.findall(saved)), len(_KUBE_CHAIN.findall(saved))


async def _all_rules(tool: Iptables) -> str:
    """IPv4's and IPv6's; a host may have no IPv6."""
    text = await tool.saved(Family.V4)
    try:
        return text + await tool.saved(Family.V6)
    except PacketFilterError:
        return text
