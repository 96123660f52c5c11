from collections.abc import Mapping

import pytest

from cloudstream.callers import Callers
from cloudstream.config import ApiClientSettings
from streamkit.errors import NotAllowed, Unauthenticated


def peercert(name: str, *organizations: str) -> Mapping[str, object]:
    """As ``SSLObject.getpeercert`` gives it."""
    lines = [(("organizationName", organization),) for organization in organizations]
    return {"subject": (*lines, (("commonName", name),)), "version": 3}


CALLERS = Callers(ApiClientSettings())


@pytest.mark.parametrize(
    "certificate",
    [
        peercert("kube-apiserver-kubelet-client", "system:masters"),
        peercert("kube-apiserver-kubelet-client"),
        peercert("system:kube-apiserver"),
        peercert("anybody", "system:masters"),
        peercert("anybody", "other", "kubeadm:cluster-admins"),
    ],
)
def test_api_servers_may_call(certificate: Mapping[str, object]) -> None:
    CALLERS.check(certificate)


@pytest.mark.parametrize("certificate", [None, {}])
def test_a_caller_without_a_certificate_is_unknown(
    certificate: Mapping[str, object] | None,
) -> None:
    with pytest.raises(Unauthenticated) as raised:
        CALLERS.check(certificate)
    assert (raised.value.http_status, bool(raised.value.hint)) == (401, True)


@pytest.mark.parametrize(
    "certificate",
    [
        peercert("system:node:edge-1", "system:nodes"),
        peercert("system:masters"),
        peercert("x", "kube-apiserver-kubelet-client"),
        peercert(""),
        {"version": 3},
    ],
)
def test_others_of_the_same_ca_may_not(certificate: Mapping[str, object]) -> None:
    with pytest.raises(NotAllowed, match="may not call the stream port") as raised:
        CALLERS.check(certificate)
    assert raised.value.http_status == 403


def test_who_may_is_configured() -> None:
    callers = Callers(ApiClientSettings(common_names=("scraper",), organizations=("ops",)))
    callers.check(peercert("scraper"))
    callers.check(peercert("x", "ops"))
    with pytest.raises(NotAllowed):
        callers.check(peercert("kube-apiserver-kubelet-client", "system:masters"))
