"""The manager on real rules, in networks of the tests' own, with other people's rules around."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from cloudstream.iptables.manager import IptablesManager
from cloudstream.iptables.rules import Forward, wanted_rules
from cloudstream.iptables.tool import Family, installed
from streamkit.errors import PacketFilterError
from tests.support.netns import (
    DOCKER,
    JUMP,
    KUBE_PROXY,
    Namespace,
    difference,
    namespace,
    programs_within,
)

V4 = wanted_rules([Forward(10351, "10.2.0.12")], [ip_network("10.2.4.15")], stream_port=10003)
V6 = wanted_rules([Forward(10352, "fd00::12")], [ip_network("fd04::15")], stream_port=10003)
BOTH: Mapping[Family, Sequence[str]] = {Family.V4: V4, Family.V6: V6}
ONLY_V4: Mapping[Family, Sequence[str]] = {Family.V4: V4, Family.V6: ()}
OURS = (f"-A PREROUTING {JUMP}", f"-A OUTPUT {JUMP}")

each_backend = pytest.mark.parametrize("backend", ["nft", "legacy"])


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


@pytest.fixture(autouse=True)
def _programs(place: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs_within(place, tmp_path / "bin", default="nft"))


def furnish(place: Namespace, backend: str) -> str:
    """Rules of kube-proxy, docker and a person; what ``rules`` then shows."""
    place.restore(backend, KUBE_PROXY)
    place.restore(backend, DOCKER)
    place.restore(backend, KUBE_PROXY, version="ip6")
    return place.rules(backend)


async def manager() -> IptablesManager:
    return IptablesManager(await installed())


async def sync(keeper: IptablesManager, wanted: Mapping[Family, Sequence[str]] = ONLY_V4) -> int:
    async with asyncio.timeout(60):
        return await keeper.sync(wanted)


@each_backend
async def test_nothing_but_ours_is_changed_and_cleanup_leaves_no_trace(
    place: Namespace, backend: str
) -> None:
    before = furnish(place, backend)
    keeper = await manager()
    assert await sync(keeper, BOTH) == 2
    changes = difference(before, place.rules(backend))
    expected = [f"+ {line}" for line in (*V4, *V6, *OURS, *OURS)]
    assert sorted(changes) == sorted([*expected, *["+ :TUNNEL-PORT - "] * 2])
    for _ in range(3):
        assert await sync(keeper, BOTH) == 0
    assert await keeper.remove() == 2
    assert place.rules(backend) == before
    assert await keeper.remove() == 0


@each_backend
async def test_what_is_deleted_comes_back_exactly_once(place: Namespace, backend: str) -> None:
    furnish(place, backend)
    keeper = await manager()
    await sync(keeper)
    right = place.rules(backend)
    program = f"iptables-{backend}"
    for command in (
        ("-D", "OUTPUT", *JUMP.replace('"', "").split()[:3], "kubeedge tunnel port", "-j"),
        ("-F", "TUNNEL-PORT"),
        ("-F", "OUTPUT"),
    ):
        if command[0] == "-D":
            command = (*command, "TUNNEL-PORT")
        kept = [line for line in right.splitlines() if not line.startswith("-A OUTPUT")]
        place.run(program, "-t", "nat", *command)
        assert await sync(keeper) == 1
        found = place.rules(backend).splitlines()
        assert [line for line in found if not line.startswith("-A OUTPUT")] == kept
        assert found.count(OURS[1]) == 1


@each_backend
async def test_old_and_doubled_rules_and_jumps_go(place: Namespace, backend: str) -> None:
    place.restore(backend, "*nat\n:MINE - [0:0]\nCOMMIT\n")
    before = furnish(place, backend)
    place.restore(
        backend,
        f"""\
*nat
:TUNNEL-PORT - [0:0]
-A TUNNEL-PORT -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003
-A TUNNEL-PORT -p tcp -m tcp --dport 10352 -j DNAT --to-destination 10.2.0.99:10003
-A TUNNEL-PORT -p tcp -m tcp --dport 10352 -j DNAT --to-destination 10.2.0.99:10003
-A OUTPUT {JUMP}
-A OUTPUT {JUMP}
-A OUTPUT -p tcp -j TUNNEL-PORT
-I OUTPUT 1 -p tcp -m multiport --dports 10350,10351 -j TUNNEL-PORT
-A PREROUTING -j TUNNEL-PORT
-A MINE -m comment --comment "by \\"hand\\"" -j TUNNEL-PORT
COMMIT
""",
    )
    keeper = await manager()
    await sync(keeper)
    changes = difference(before, place.rules(backend))
    expected = [f"+ {line}" for line in (*V4, *OURS)]
    assert sorted(changes) == sorted([*expected, "+ :TUNNEL-PORT - "])
    await keeper.remove()
    assert place.rules(backend) == before


BY_HAND = """\
*nat
-A OUTPUT -p tcp --dport 10350 -j DNAT --to 10.2.0.12:10003
-A OUTPUT -p tcp --dport 10351 -j DNAT --to 10.2.0.12:10003
-A OUTPUT -p tcp --dport 10351 -j DNAT --to 10.2.0.12:10003
-A PREROUTING -p tcp --dport 10351 -j DNAT --to 10.2.0.99:10003
COMMIT
"""
"""As KubeEdge's guides had people type it: once, twice, and for a cloud that is gone."""


@pytest.mark.parametrize("where", ["nft", "legacy"])
async def test_rules_that_guides_had_people_add_go(
    place: Namespace, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = furnish(place, "nft")
    other_before = place.rules("legacy")
    place.restore(where, BY_HAND)
    with_them = place.rules("nft")
    keeper = await manager()
    await sync(keeper, {Family.V4: (), Family.V6: ()})
    assert place.rules("nft") == with_them  # nothing is in their place yet
    keeper = await manager()
    plan, _ = await keeper.plan(ONLY_V4)
    assert plan.partition(f"# iptables-{where}-restore --noflush\n")[2].count("-D ") == 4
    await sync(keeper)
    expected = [f"+ {line}" for line in (*V4, *OURS, ":TUNNEL-PORT - ")]
    assert sorted(difference(before, place.rules("nft"))) == sorted(expected)
    if where == "legacy":
        assert "10003" not in place.rules("legacy")
    else:
        assert place.rules("legacy") == other_before
    assert caplog.text.count("removed a rule that was added by hand") == 4
    assert f"iptables-{where} -t nat -A PREROUTING -p tcp" in caplog.text
    await keeper.remove()
    assert place.rules("nft") == before


@each_backend
async def test_many_managers_at_once_agree(place: Namespace, backend: str) -> None:
    before = furnish(place, backend)
    keepers = [await manager() for _ in range(4)]

    async def work(keeper: IptablesManager) -> None:
        for _ in range(4):
            # Another one may be faster; a later pass sees what it did.
            with contextlib.suppress(PacketFilterError):
                await sync(keeper, BOTH)

    await asyncio.gather(*map(work, keepers))
    await sync(keepers[0], BOTH)
    right = place.rules(backend)
    assert [right.splitlines().count(line) for line in OURS] == [2, 2]
    assert [right.splitlines().count(line) for line in (*V4[:1], *V4[2:], *V6[2:])] == [2, 1, 1]
    for keeper in keepers:
        assert await sync(keeper, BOTH) == 0
    await keepers[1].remove()
    assert place.rules(backend) == before


@pytest.mark.parametrize("holder", ["nft", "legacy"])
async def test_rules_are_where_kubernetes_has_its_own_and_nowhere_else(
    place: Namespace, holder: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = "legacy" if holder == "nft" else "nft"
    keeper = await manager()
    await sync(keeper)  # before kube-proxy: in the host's default
    assert OURS[0] in place.rules("nft")
    assert place.rules("legacy") == ""
    furnish(place, holder)
    place.restore(other, DOCKER)
    clean = place.rules(other) if other != "nft" else ""
    await sync(keeper)
    assert OURS[0] in place.rules(holder)
    assert "TUNNEL-PORT" not in place.rules(other)
    assert "-A OUTPUT -d 10.7.7.7/32" in place.rules(other)
    if clean:
        assert place.rules(other) == clean
    assert caplog.text.count("removed old rules of ours") == (holder == "legacy")


async def test_kubernetes_rules_in_both_back_ends_are_warned_of(
    place: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    place.restore("legacy", KUBE_PROXY)
    place.restore("nft", "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n")
    await sync(await manager())
    assert OURS[0] in place.rules("legacy")
    assert "KUBE-* chains are in both back ends" in caplog.text


@each_backend
async def test_ipv6_is_left_alone_while_nothing_is_wanted_of_it(
    place: Namespace, backend: str
) -> None:
    place.restore(backend, KUBE_PROXY)
    keeper = await manager()
    await sync(keeper)
    assert place.run(f"ip6tables-{backend}-save") == ""
    await sync(keeper, BOTH)
    assert V6[-1] in place.rules(backend)
    await sync(keeper, ONLY_V4)
    assert V6[-1] not in place.rules(backend)
    await keeper.remove()
    assert "TUNNEL-PORT" not in place.rules(backend)


@each_backend
async def test_a_plan_changes_nothing(place: Namespace, backend: str) -> None:
    before = furnish(place, backend)
    keeper = await manager()
    plan, is_any = await keeper.plan(ONLY_V4)
    assert is_any
    assert plan.startswith(f"# iptables-{backend}: it holds the KUBE-* chains\n")
    assert f"# iptables-{backend}-restore --noflush\n*nat\n:TUNNEL-PORT - [0:0]\n" in plan
    assert f"# ip6tables-{backend}-restore: nothing\n" in plan
    assert place.rules(backend) == before
    await sync(keeper)
    plan, is_any = await keeper.plan(ONLY_V4)
    assert not is_any
    assert f"# iptables-{backend}-restore: nothing\n" in plan


async def test_whoever_else_changes_the_rules_is_told(
    place: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    furnish(place, "nft")
    keeper = await manager()
    await sync(keeper)
    assert "somebody else" not in caplog.text
    place.run("iptables-nft", "-t", "nat", "-A", "TUNNEL-PORT", "-j", "RETURN")
    await sync(keeper)
    assert "somebody else changed the chain TUNNEL-PORT" in caplog.text


async def test_a_program_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PacketFilterError, match="the program iptables is not installed"):
        await installed()


async def test_a_program_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "iptables-nft").write_text("#!/bin/sh\nexec sleep 60\n")
    keeper = await manager()
    monkeypatch.setattr("cloudstream.iptables.tool._DEADLINE", 0.5)
    with pytest.raises(PacketFilterError, match=r"iptables-nft did not end within 0\.5 s"):
        await sync(keeper)


async def test_without_permission_one_sentence_tells_it(tmp_path: Path) -> None:
    for program in (tmp_path / "bin").iterdir():
        words = program.read_text().split()
        real = words[words.index("exec", 2) + 2]
        program.write_text(
            f'#!/bin/sh\nexec capsh --drop=cap_net_admin -- -c \'exec "$0" "$@"\' {real} "$@"\n'
        )
    keeper = await manager()
    with pytest.raises(PacketFilterError, match="is not permitted to change the rules") as raised:
        await sync(keeper)
    assert raised.value.hint == "run as root, with the capability NET_ADMIN"
