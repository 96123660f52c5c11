"""Who the other replicas are, and who of them is asked for a node."""

import ssl
from collections.abc import Mapping, Sequence

import pytest

from cloudstream.replicas.exchange import Address, ReplicaDialler, ReplicaSession
from cloudstream.replicas.messages import NodeNotHere
from cloudstream.replicas.replicas import Published, Replicas
from streamkit.errors import CertMissing, ReplicaUnreachable
from streamkit.pki.contexts import Identity

IDENTITY = Identity("cloudstream-stream", ("cloudstream",))
A, B, C = ("10.0.0.1", 10003), ("10.0.0.2", 10003), ("10.0.0.3", 10003)


class World:
    """What the record and the Nodes say."""

    def __init__(self, static: Sequence[Address] = (), identity: Identity = IDENTITY) -> None:
        self.record: dict[int, str] = {10351: A[0], 10352: B[0], 10353: C[0]}
        self.published: dict[str, Published] = {}
        self.replicas = Replicas(
            ReplicaDialler(ssl.create_default_context(), lambda: identity),
            static=static,
            stream_port=10003,
            record=lambda: self.record,
            published=self.published.get,
            names_at=lambda address: (),
        )

    def asked(self, node_name: str = "edge-1") -> list[Address]:
        """Whom a request for the node goes to, one after the other."""
        return [each.address for each in self.replicas.candidates(node_name)]

    def session(self, address: Address, node_name: str = "edge-1") -> ReplicaSession:
        found = {each.address: each for each in self.replicas.candidates(node_name)}
        return found[address]


def test_all_in_the_record_are_asked_at_our_own_stream_port() -> None:
    world = World()
    assert world.replicas.addresses() == world.asked() == [A, B, C]
    world.record = {}
    assert world.asked() == []


def test_the_one_whose_port_the_node_has_is_asked_first() -> None:
    world = World()
    world.published["edge-1"] = Published(10353, 0)
    assert world.asked() == [C, A, B]
    assert world.asked("edge-2") == [A, B, C]
    assert [world.replicas.is_known(name) for name in ("edge-1", "edge-2")] == [True, False]
    world.published["edge-1"] = Published(10250, 0)
    assert world.asked() == [A, B, C]


async def test_who_answered_for_the_node_is_asked_first_until_he_does_not() -> None:
    world = World()
    world.session(B).told(None)
    assert world.asked() == [B, A, C]
    assert world.replicas.is_known("edge-1")
    assert world.asked("edge-2") == [A, B, C]
    world.session(B).told(NodeNotHere("the replica at 10.0.0.2 does not hold the node"))
    assert world.asked() == [A, B, C]
    world.session(B).told(None)
    del world.record[10352]
    assert world.asked() == [A, C]
    assert not world.replicas.is_known("edge-1")


async def test_who_could_not_be_reached_is_not_asked_though_a_node_names_him() -> None:
    world = World()
    world.published["edge-1"] = Published(10352, 0)
    world.session(B).told(ReplicaUnreachable("the replica at 10.0.0.2 can't be reached"))
    assert world.asked() == world.asked("edge-2") == [A, C]
    await world.replicas.close()


def test_a_configured_list_replaces_the_record() -> None:
    world = World(static=[("cloud.example", 10013)])
    world.published["edge-1"] = Published(10353, 0)
    assert world.asked() == [("cloud.example", 10013)]
    assert not world.replicas.is_known("edge-1")


def test_a_node_is_elsewhere_if_it_has_said_so_since() -> None:
    world = World()
    assert not world.replicas.published_elsewhere("edge-1", since=5)
    world.published["edge-1"] = Published(10352, 7)
    assert world.replicas.published_elsewhere("edge-1", since=5)
    assert not world.replicas.published_elsewhere("edge-1", since=8)
    world.published["edge-1"] = Published(10354, 7)
    assert not world.replicas.published_elsewhere("edge-1", since=5)


def certificate(common_name: str, organization: str) -> Mapping[str, object]:
    names = (("organizationName", organization), ("commonName", common_name))
    return {"subject": tuple((pair,) for pair in names if pair[1])}


@pytest.mark.parametrize(
    ("peercert", "expected"),
    [
        (certificate("cloudstream-stream", "cloudstream"), True),
        (certificate("cloudstream-stream", ""), False),
        (certificate("system:node:edge-1", "system:nodes"), False),
        (certificate("", ""), False),
        (None, False),
    ],
)
def test_a_replica_has_the_subject_that_we_have(
    peercert: Mapping[str, object] | None, *, expected: bool
) -> None:
    assert World().replicas.is_replica(peercert) is expected


def test_no_name_at_all_is_nobodys() -> None:
    replicas = World(identity=Identity("", ())).replicas
    assert not replicas.is_replica(None)
    assert not replicas.is_replica(certificate("", ""))


def test_a_new_certificate_may_name_somebody_else() -> None:
    names: list[Identity | None] = [IDENTITY, Identity("new", ("cloudstream",)), None]

    def own_identity() -> Identity:
        if (identity := names.pop(0)) is None:
            raise CertMissing("the file is gone")
        return identity

    dialler = ReplicaDialler(ssl.create_default_context(), own_identity)
    for _ in range(2):
        dialler.use(ssl.create_default_context())
        accepted = [
            dialler.is_replica(certificate(name, "cloudstream"))
            for name in (IDENTITY.common_name, "new")
        ]
        assert accepted == [False, True]
