"""Keeps the rules as they should be, whatever others do to them."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from cloudstream.iptables.backend import Choice, look_around
from cloudstream.iptables.rules import NOTHING, FoundRules, by_hand, correction, read_rules, removal
from cloudstream.iptables.tool import Family, Iptables
from streamkit.errors import PacketFilterError
from streamkit.service.logs import RepeatLimiter

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""Transactions that may fail because somebody else changes the rules at the same moment."""
_CONFLICT_PAUSE = 0.2
_LOOK_AROUND = 60
"""Passes between two looks at which back end is the right one."""

Wanted = Mapping[Family, Sequence[str]]


class IptablesManager:
    """Owns the chain and its jumps in the network in which the process runs."""

    def __init__(self, tools: Sequence[Iptables]) -> None:
        self._tools = tools
        self._choice: Choice | None = None
        self._passes = 0
        self._applied: Wanted | None = None
        self._limiter = RepeatLimiter(3600.0)

    async def sync(self, wanted: Wanted) -> int:
        """Make the rules what is wanted; how many IP versions had to be corrected.

        Raises PacketFilterError; then it is worth another try later.
        """
        choice = await self._choose(wanted)
        corrected = 0
        for family in Family:
            if await self._correct(choice.tool, family, wanted[family]):
                corrected += 1
        if corrected and self._applied == wanted:
            self._warn(
                "somebody else changed the chain TUNNEL-PORT or its jumps; they are put right "
                "(is there a second manager, such as CloudCore's own?)"
            )
        if self._applied != wanted:
            count = sum(map(len, wanted.values()))
            log.info("the chain TUNNEL-PORT has its %d rules, in %s", count, choice.tool.name)
        self._applied = wanted
        return corrected

    async def plan(self, wanted: Wanted) -> tuple[str, bool]:
        """What ``sync`` would apply, as text, and whether that is anything; nothing is changed."""
        choice = await look_around(self._tools)
        parts, is_any = [f"# {choice.reason}\n"], False
        for family in Family:
            text = correction(await _found(choice.tool, family, wanted[family]), wanted[family])
            program = choice.tool.program(family, "-restore")
            parts.append(f"# {program} --noflush\n{text}" if text else f"# {program}: nothing\n")
            is_any |= bool(text)
        for tool in choice.others:
            for family in Family:
                with contextlib.suppress(PacketFilterError):
                    if text := removal(*await _leftovers(tool, family, wanted[family])):
                        program = tool.program(family, "-restore")
                        parts.append(f"# {program} --noflush\n{text}")
                        is_any = True
        return "".join(parts), is_any

    async def remove(self) -> int:
        """Leave nothing of ours, in no back end; how many rule sets had something."""
        choice = await look_around(self._tools)
        removed = int(await _remove(choice.tool, Family.V4))
        with contextlib.suppress(PacketFilterError):
            removed += await _remove(choice.tool, Family.V6)
        removed += await self._leave(choice.others, {})
        self._applied = None
        return removed

    async def _choose(self, wanted: Wanted) -> Choice:
        """The back end; where we were in another one before, nothing is left there."""
        choice = self._choice
        self._passes += 1
        if choice is None or not choice.is_sure or self._passes % _LOOK_AROUND == 0:
            choice = await look_around(self._tools)
            if self._choice is None or self._choice.tool != choice.tool:
                log.info("the rules are kept with %s", choice.reason)
            self._choice = choice
            await self._leave(choice.others, wanted)
        if choice.warning:
            self._warn(choice.warning)
        return choice

    async def _leave(self, tools: Sequence[Iptables], wanted: Wanted) -> int:
        left = 0
        for tool in tools:
            for family in Family:
                with contextlib.suppress(PacketFilterError):
                    if await _remove(tool, family, wanted.get(family, ())):
                        log.warning("removed old rules of ours from %s", tool.program(family))
                        left += 1
        return left

    async def _correct(self, tool: Iptables, family: Family, wanted: Sequence[str]) -> bool:
        for attempt in range(1, _ATTEMPTS + 1):
            found = await _found(tool, family, wanted)
            text = correction(found, wanted)
            if not text:
                return attempt > 1
            try:
                await tool.restore(family, text)
                _tell_of(by_hand(found, wanted), tool.program(family))
            except PacketFilterError:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_CONFLICT_PAUSE)
        if correction(await _found(tool, family, wanted), wanted):
            raise PacketFilterError(
                f"{tool.program(family)} does not show the rules that were written",
                hint="somebody else may be changing them all the time",
            )
        return True

    def _warn(self, sentence: str) -> None:
        if (repeats := self._limiter.admit(sentence)) is not None:
            log.warning("%s%s", sentence, repeats)


async def _found(tool: Iptables, family: Family, wanted: Sequence[str]) -> FoundRules:
    """What is there.

    Where nothing is wanted of IPv6, its tables are not even called to life, and a host that has
    none is no fault.
    """
    if family is Family.V4 or wanted:
        return read_rules(await tool.nat_rules(family))
    try:
        return read_rules(_nat_only(await tool.saved(family)))
    except PacketFilterError:
        return NOTHING


async def _leftovers(
    tool: Iptables, family: Family, wanted: Sequence[str]
) -> tuple[FoundRules, list[str]]:
    """What is there of ours, and what is wanted elsewhere by now."""
    found = read_rules(_nat_only(await tool.saved(family)))
    return found, by_hand(found, wanted)


async def _remove(tool: Iptables, family: Family, wanted: Sequence[str] = ()) -> bool:
    """Whether anything of ours, or of what is wanted elsewhere by now, was there to be removed."""
    found, outdated = await _leftovers(tool, family, wanted)
    text = removal(found, outdated)
    if not text:
        return False
    await tool.restore(family, text)
    _tell_of(outdated, tool.program(family))
    return True


def _tell_of(outdated: Sequence[str], program: str) -> None:
    for line in outdated:
        log.warning(
            "removed a rule that was added by hand, as KubeEdge's guides had it, for the chain "
            "TUNNEL-PORT is in its place: %s -t nat %s",
            program,
            line,
        )


def _nat_only(saved: str) -> str:
    """The part of ``iptables-save`` about the table nat."""
    return saved.partition("*nat\n")[2].partition("\nCOMMIT")[0]
