from ipaddress import ip_network

import pytest

from cloudstream.iptables.rules import (
    NOTHING,
    Forward,
    FoundRules,
    by_hand,
    correction,
    read_rules,
    removal,
    wanted_rules,
)

CLOUD = Forward(10351, "10.2.0.12")
EDGE = ip_network("10.2.4.15")
JUMP = '-m comment --comment "kubeedge tunnel port" -j TUNNEL-PORT'


def dnat(edge: str, port: int, cloud: str) -> str:
    return f"-A TUNNEL-PORT -d {edge} -p tcp -m tcp --dport {port} -j DNAT --to-destination {cloud}"


WANTED = (
    "-A TUNNEL-PORT ! -p tcp -j RETURN",
    "-A TUNNEL-PORT -p tcp -m tcp ! --dport 10351 -j RETURN",
    dnat("10.2.4.15/32", 10351, "10.2.0.12:10003"),
)
LISTING = "\n".join(
    (
        "-P PREROUTING ACCEPT",
        "-P OUTPUT ACCEPT",
        "-N KUBE-SERVICES",
        "-N TUNNEL-PORT",
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        f"-A PREROUTING {JUMP}",
        f"-A OUTPUT {JUMP}",
        '-A OUTPUT -m comment --comment "not for TUNNEL-PORT" -j KUBE-SERVICES',
        *WANTED,
    )
)
RIGHT = FoundRules(True, WANTED, (f"-A PREROUTING {JUMP}", f"-A OUTPUT {JUMP}"))


def test_a_rule_for_each_cloud_service_and_edge_node() -> None:
    edges = [ip_network("10.2.4.15"), ip_network("10.2.4.16")]
    forwards = [CLOUD, Forward(10353, "10.2.0.13")]
    assert wanted_rules(forwards, edges, stream_port=20003) == (
        "-A TUNNEL-PORT ! -p tcp -j RETURN",
        "-A TUNNEL-PORT -p tcp -m tcp ! --dport 10351:10353 -j RETURN",
        dnat("10.2.4.15/32", 10351, "10.2.0.12:20003"),
        dnat("10.2.4.16/32", 10351, "10.2.0.12:20003"),
        dnat("10.2.4.15/32", 10353, "10.2.0.13:20003"),
        dnat("10.2.4.16/32", 10353, "10.2.0.13:20003"),
    )


def test_ipv6_addresses_stand_in_brackets() -> None:
    rules = wanted_rules([Forward(10351, "fd00::12")], [ip_network("fd04::15")], stream_port=10003)
    assert rules[-1] == (
        "-A TUNNEL-PORT -d fd04::15/128 -p tcp -m tcp --dport 10351"
        " -j DNAT --to-destination [fd00::12]:10003"
    )


def test_any_destination_is_kubeedges_own_rule() -> None:
    rules = wanted_rules([CLOUD], None, stream_port=10003)
    assert rules[-1] == (
        "-A TUNNEL-PORT -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003"
    )


def test_without_cloud_services_or_edge_nodes_there_are_no_rules() -> None:
    assert wanted_rules([], [EDGE], stream_port=10003) == ()
    assert wanted_rules([], None, stream_port=10003) == ()
    assert wanted_rules([CLOUD], [], stream_port=10003) == ()


def test_what_is_ours_is_found() -> None:
    assert read_rules(LISTING) == RIGHT
    assert read_rules("-P OUTPUT ACCEPT\n-N KUBE-SERVICES") == NOTHING
    saved = f"*nat\n:OUTPUT ACCEPT [1:60]\n:TUNNEL-PORT - [0:0]\n-A OUTPUT {JUMP}\nCOMMIT\n"
    assert read_rules(saved) == FoundRules(True, (), (f"-A OUTPUT {JUMP}",))
    assert read_rules("-A MINE -g TUNNEL-PORT").jumps == ("-A MINE -g TUNNEL-PORT",)
    assert read_rules("-N TUNNEL-PORT-2\n-A OUTPUT -j TUNNEL-PORT-2") == NOTHING


def test_what_is_right_is_left_alone() -> None:
    assert correction(RIGHT, WANTED) == ""
    assert correction(NOTHING, ()) == ""
    other_quotes = tuple(line.replace('"', "'") for line in RIGHT.jumps)
    assert correction(FoundRules(True, WANTED, other_quotes), WANTED) == ""


def test_everything_is_made_in_one_transaction() -> None:
    assert (
        correction(NOTHING, WANTED)
        == f"""\
*nat
:TUNNEL-PORT - [0:0]
-A TUNNEL-PORT ! -p tcp -j RETURN
-A TUNNEL-PORT -p tcp -m tcp ! --dport 10351 -j RETURN
-A TUNNEL-PORT -d 10.2.4.15/32 -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003
-A OUTPUT {JUMP}
-A PREROUTING {JUMP}
COMMIT
"""
    )


@pytest.mark.parametrize(
    "rules",
    [
        (),
        WANTED[:2],
        (*WANTED, WANTED[-1]),
        WANTED[::-1],
        ("-A TUNNEL-PORT -p tcp -j DNAT --to-destination 10.2.0.9:10003", *WANTED),
    ],
    ids=["none", "one missing", "one twice", "another order", "somebody's own"],
)
def test_other_rules_are_replaced_and_the_jumps_stay(rules: tuple[str, ...]) -> None:
    text = correction(FoundRules(True, rules, RIGHT.jumps), WANTED)
    assert text == "\n".join(("*nat", ":TUNNEL-PORT - [0:0]", *WANTED, "COMMIT", ""))


@pytest.mark.parametrize(
    "jumps",
    [
        (f"-A OUTPUT {JUMP}",),
        (f"-A OUTPUT {JUMP}", f"-A OUTPUT {JUMP}", f"-A PREROUTING {JUMP}"),
        ("-A OUTPUT -j TUNNEL-PORT", *RIGHT.jumps),
        ("-A OUTPUT -p tcp -m tcp --dport 10350 -j TUNNEL-PORT", *RIGHT.jumps),
        ("-A POSTROUTING -j TUNNEL-PORT", *RIGHT.jumps),
    ],
    ids=["missing", "twice", "by hand", "by hand for a port", "elsewhere"],
)
def test_wrong_jumps_are_replaced_as_a_whole(jumps: tuple[str, ...]) -> None:
    deletions = [line.replace("-A", "-D", 1) for line in jumps]
    new = [f"-A OUTPUT {JUMP}", f"-A PREROUTING {JUMP}"]
    lines = ("*nat", ":TUNNEL-PORT - [0:0]", *deletions, *WANTED, *new, "COMMIT", "")
    assert correction(FoundRules(True, WANTED, jumps), WANTED) == "\n".join(lines)


BY_HAND = (
    "-A OUTPUT -p tcp -m tcp --dport 10350 -j DNAT --to-destination 10.2.0.12:10003",
    "-A OUTPUT -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.99:10003",
    "-A OUTPUT -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.99:10003",
    "-A PREROUTING -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003",
)
OF_OTHERS = (
    "-A OUTPUT -p tcp -m tcp --dport 10352 -j DNAT --to-destination 10.2.0.12:10003",
    "-A OUTPUT -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:8443",
    "-A OUTPUT -d 10.7.7.7/32 -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.0.0.1:10003",
    "-A OUTPUT -o eth1 -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003",
    "-A OUTPUT -p tcp -m tcp --dport 10351 -m comment --comment a -j DNAT --to-destination a:10003",
    "-A MINE -p tcp -m tcp --dport 10351 -j DNAT --to-destination 10.2.0.12:10003",
    "-A OUTPUT -p tcp -m tcp --dport 10351 -j REDIRECT --to-ports 10003",
)


def test_rules_that_guides_had_people_add_go_and_others_stay() -> None:
    found = read_rules("\n".join((LISTING, *BY_HAND, *OF_OTHERS)))
    assert found.rules == RIGHT.rules
    assert by_hand(found, WANTED) == [*BY_HAND]
    deletions = [line.replace("-A", "-D", 1) for line in BY_HAND]
    text = correction(found, WANTED)
    lines = ("*nat", ":TUNNEL-PORT - [0:0]", *deletions, *WANTED, "COMMIT", "")
    assert text == "\n".join(lines)
    # In a back end that is not used there is no chain to be removed, or one is.
    only = read_rules("\n".join(BY_HAND))
    assert removal(only, BY_HAND) == "\n".join(("*nat", *deletions, "COMMIT", ""))
    both = removal(found, BY_HAND).splitlines()
    assert both[:3] == ["*nat", ":TUNNEL-PORT - [0:0]", deletions[0]]
    assert both[-2:] == ["-X TUNNEL-PORT", "COMMIT"]


def test_nothing_is_taken_away_that_nothing_replaces() -> None:
    found = read_rules("\n".join((LISTING, *BY_HAND)))
    assert by_hand(found, ()) == []
    assert by_hand(found, WANTED[:2]) == []


def test_a_chain_without_anything_to_do_is_emptied() -> None:
    text = correction(RIGHT, ())
    assert text == "*nat\n:TUNNEL-PORT - [0:0]\nCOMMIT\n"


def test_removal_leaves_nothing() -> None:
    assert removal(NOTHING) == ""
    assert (
        removal(FoundRules(True, WANTED, ("-A OUTPUT -j TUNNEL-PORT", *RIGHT.jumps)))
        == f"""\
*nat
:TUNNEL-PORT - [0:0]
-D OUTPUT -j TUNNEL-PORT
-D PREROUTING {JUMP}
-D OUTPUT {JUMP}
-X TUNNEL-PORT
COMMIT
"""
    )
