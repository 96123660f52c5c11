import pytest

from cloudstream.iptables.backend import choose
from cloudstream.iptables.tool import Iptables

NFT, LEGACY = Iptables("iptables-nft", "nft"), Iptables("iptables-legacy", "legacy")
PROXY = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\nCOMMIT\n"
KUBELET = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
DOCKER = "*nat\n:DOCKER - [0:0]\n-A OUTPUT -j DOCKER\nCOMMIT\n"


@pytest.mark.parametrize("default", [NFT, LEGACY], ids=["nft first", "legacy first"])
@pytest.mark.parametrize("holder", [NFT, LEGACY], ids=["in nft", "in legacy"])
@pytest.mark.parametrize("rules", [PROXY, KUBELET], ids=["kube-proxy", "kubelet"])
def test_the_back_end_with_kubernetes_rules_is_taken(
    default: Iptables, holder: Iptables, rules: str
) -> None:
    other = LEGACY if holder is NFT else NFT
    second = LEGACY if default is NFT else NFT
    found = choose([default, second], {holder.backend: rules, other.backend: DOCKER})
    assert (found.tool, found.others) == (holder, (other,))
    assert found.reason == f"{holder.name}: it holds the KUBE-* chains"
    assert found.is_sure
    assert found.warning == ""


@pytest.mark.parametrize("proxy", [NFT, LEGACY], ids=["proxy in nft", "proxy in legacy"])
def test_where_both_have_some_kube_proxys_is_taken_with_a_warning(proxy: Iptables) -> None:
    other = LEGACY if proxy is NFT else NFT
    found = choose([NFT, LEGACY], {proxy.backend: PROXY, other.backend: KUBELET})
    assert (found.tool, found.is_sure) == (proxy, True)
    assert f"in both back ends of iptables; those outside of {proxy.name} look" in found.warning


@pytest.mark.parametrize("default", [NFT, LEGACY], ids=["nft", "legacy"])
def test_where_none_has_any_the_hosts_default_is_taken(default: Iptables) -> None:
    second = LEGACY if default is NFT else NFT
    found = choose([default, second], {"nft": DOCKER, "legacy": ""})
    assert (found.tool, found.is_sure) == (default, False)
    assert found.reason.endswith("it is this host's default, and there are no KUBE-* chains")
