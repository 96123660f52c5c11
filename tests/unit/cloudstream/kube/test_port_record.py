import json

import pytest

from cloudstream.kube.port_record import (
    BadRecord,
    PortRecord,
    edge_entries,
    format_record,
    is_address,
    negotiate,
    parse_record,
    same_spelling,
)

A, B = "10.0.0.1", "10.0.0.2"


def record(by_address: dict[str, int], *more: int) -> PortRecord:
    """Their ports are taken, and some more."""
    return PortRecord(by_address, dict.fromkeys((*by_address.values(), *more), True))


def test_the_text_is_kubeedges() -> None:
    written = record({B: 10352, A: 10351}, 10360)
    text = (
        '{"ipTunnelPort":{"10.0.0.1":10351,"10.0.0.2":10352},'
        '"port":{"10351":true,"10352":true,"10360":true}}'
    )
    assert format_record(written) == text
    assert parse_record(text) == written
    assert parse_record(text).problems == ()
    assert format_record(PortRecord()) == '{"ipTunnelPort":{},"port":{}}'


@pytest.mark.parametrize(
    ("before", "port"),
    [
        (record({}), 10351),
        (record({B: 10351}), 10352),
        (record({}, 10351, 10352, 10354), 10353),  # given out once, so never again
        (record({A: 10351, B: 10352}), 10351),
        (record({A: 10399}), 10399),
        (record({A: 10350}), 10350),
        (PortRecord({}, {10351: False}), 10352),
        (PortRecord({B: 10351}, {}), 10352),  # a number in use counts though it is not listed
    ],
)
def test_an_address_gets_a_port(before: PortRecord, port: int) -> None:
    given, after = negotiate(before, A, held=None)
    assert given == port
    assert after.by_address == {**before.by_address, A: port}
    assert after.taken == {**before.taken, **dict.fromkeys(after.by_address.values(), True)}
    assert negotiate(after, A, held=None) == (port, after)


def test_a_port_that_is_held_is_kept_where_somebody_removed_the_entry() -> None:
    removed = record({B: 10352}, 10351)
    assert negotiate(removed, A, held=10351) == (10351, record({A: 10351, B: 10352}))
    lost = record({B: 10351})
    assert negotiate(lost, A, held=10351)[0] == 10352


def test_a_forgotten_address_frees_its_port_unless_another_has_it() -> None:
    known = record({A: 10351, B: 10352})
    assert known.forgetting({B}) == record({A: 10351})
    assert known.forgetting(()) == known
    shared = PortRecord({A: 10351, B: 10351}, {10351: True, 10355: True})
    assert shared.forgetting({B}) == PortRecord({A: 10351}, {10351: True, 10355: True})


def test_a_port_of_two_addresses_is_nobodys() -> None:
    assert negotiate(record({A: 10351, B: 10351}), A, held=None) == (
        10352,
        record({A: 10352, B: 10351}),
    )


def test_several_spellings_of_one_address_become_one() -> None:
    before = record({"::ffff:10.0.0.1": 10353, " 10.0.0.1": 10352, B: 10354, "x": 10355})
    port, after = negotiate(before, A, held=None)
    assert port == 10352
    assert after == record({A: 10352, B: 10354, "x": 10355})
    port, after = negotiate(record({"FD00:0::1": 10351}), "fd00::1", held=None)
    assert (port, after) == (10351, record({"fd00::1": 10351}))


@pytest.mark.parametrize("text", [None, "", "{", "null", "[]", '"x"', "1"])
def test_what_is_no_record_is_told(text: str | None) -> None:
    with pytest.raises(BadRecord, match=r"^the annotation tunnelportrecord\.kubeedge\.io is "):
        parse_record(text)


def test_what_can_be_read_of_a_broken_record_is_read() -> None:
    document = {
        "ipTunnelPort": {A: 10351, B: "10352", "c": True, "edge.example": 10353, "10.0.0.9": 0},
        "port": {"10351": True, "x": True, "70000": True, "10360": 1},
    }
    found = parse_record(json.dumps(document))
    assert found == PortRecord({A: 10351, "edge.example": 10353}, {10351: True})
    assert found.problems == (
        "ipTunnelPort has no port for '10.0.0.2'",
        "ipTunnelPort has no port for 'c'",
        "ipTunnelPort has the key 'c', which is no address",
        "ipTunnelPort has the key 'edge.example', which is no address",
        "ipTunnelPort has no port for '10.0.0.9'",
        "port has the entry 'x', which is no port",
        "port has the entry '70000', which is no port",
        "port has the entry '10360', which is no port",
    )


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        ({}, ("ipTunnelPort is missing", "port is missing")),
        ({"ipTunnelPort": None, "port": []}, ("ipTunnelPort is missing", "port is no mapping")),
    ],
)
def test_missing_parts_are_told(document: object, problems: tuple[str, ...]) -> None:
    found = parse_record(json.dumps(document))
    assert (found, found.problems) == (PortRecord(), problems)


def test_keys_that_are_edge_nodes_are_recognised() -> None:
    found = record({"192.168.1.16": 10350, "192.168.1.17": 10351, A: 10352, "x": 10353})
    edges = {"192.168.1.17", "::ffff:192.168.1.16", "192.168.1.99"}
    assert edge_entries(found, edges) == ["192.168.1.16", "192.168.1.17"]


def test_a_port_is_found_in_every_spelling() -> None:
    found = record({"::FFFF:10.0.0.1": 10351})
    assert found.port_of(A) == 10351
    assert found.port_of(B) is None


@pytest.mark.parametrize(("text", "spelled"), [("FD00::0:1", "fd00::1"), (" x", " x")])
def test_addresses_have_one_spelling(text: str, spelled: str) -> None:
    assert same_spelling(text) == spelled
    assert is_address(text) == (spelled != " x")
