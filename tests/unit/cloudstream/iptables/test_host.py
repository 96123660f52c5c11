from pathlib import Path

import pytest

import cloudstream.iptables.host as host
from cloudstream.iptables.host import check_network, has_default_route, is_local
from streamkit.errors import PacketFilterError

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
DEFAULT = "eth0 00000000 0100020A 0003 0 0 0 00000000 0 0 0\n"
SUBNET = "eth0 0000020A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
REJECTED = "* 00000000 00000000 0200 0 0 0 00000000 0 0 0\n"
NONE, ONE = "0" * 32, "fd" + "0" * 30
DEFAULT6 = f"{NONE} 00 {NONE} 00 {ONE} 00000400 00000001 00000000 00000003     eth0\n"
LOOPBACK6 = f"{NONE} 00 {NONE} 00 {NONE} ffffffff 00000001 00000000 00200200       lo\n"


@pytest.mark.parametrize(
    ("routes", "routes6", "expected"),
    [
        (HEAD + SUBNET + DEFAULT, "", True),
        (HEAD + SUBNET, LOOPBACK6, False),
        (HEAD + REJECTED, "", False),
        (HEAD, DEFAULT6, True),
        ("", "", False),
        (None, None, False),
    ],
)
def test_a_default_route_is_seen(
    tmp_path: Path, routes: str | None, routes6: str | None, expected: bool
) -> None:
    paths = tmp_path / "route", tmp_path / "ipv6_route"
    for path, text in zip(paths, (routes, routes6), strict=True):
        if text is not None:
            path.write_text(text)
    assert has_default_route(*paths) is expected


def test_own_addresses_are_known() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.77")
    assert not is_local("no address")


def test_a_network_that_is_not_the_hosts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_network("127.0.0.1")
    with pytest.raises(PacketFilterError, match=r"it has no address 192\.0\.2\.77"):
        check_network("192.0.2.77")
    monkeypatch.setattr(host, "has_default_route", lambda: True)
    check_network("")
    monkeypatch.setattr(host, "has_default_route", lambda: False)
    with pytest.raises(PacketFilterError, match="it has no default route"):
        check_network("")
