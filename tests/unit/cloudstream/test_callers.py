from collections.abc import Mapping

import pytest

from cloudstream.answers import error_answer
from cloudstream.callers import Callers, TokenForbidden, TokenRefused, subresources_of
from cloudstream.config import ApiClientSettings
from cloudstream.kube.review import Reviewer, User
from cloudstream.kubelet_path import Subject
from streamkit.errors import LookupFailed, NotAllowed, Unauthenticated
from streamkit.wire.exchange import RequestHead
from tests.support.kube import Answer, ScriptedKube

REQUEST = RequestHead("GET", "/metrics")


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
async def test_api_servers_may_call(certificate: Mapping[str, object]) -> None:
    assert await CALLERS.check(certificate, REQUEST) is None


@pytest.mark.parametrize("certificate", [None, {}])
async def test_a_caller_without_a_certificate_is_unknown(
    certificate: Mapping[str, object] | None,
) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await CALLERS.check(certificate, REQUEST)
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
async def test_others_of_the_same_ca_may_not(certificate: Mapping[str, object]) -> None:
    with pytest.raises(NotAllowed, match="may not call the stream port") as raised:
        await CALLERS.check(certificate, REQUEST)
    assert raised.value.http_status == 403


async def test_who_may_is_configured() -> None:
    callers = Callers(ApiClientSettings(common_names=("scraper",), organizations=("ops",)))
    assert await callers.check(peercert("scraper"), REQUEST) is None
    assert await callers.check(peercert("x", "ops"), REQUEST) is None
    with pytest.raises(NotAllowed):
        await callers.check(peercert("kube-apiserver-kubelet-client", "system:masters"), REQUEST)


# -- tokens --------------------------------------------------------------------------------------

TOKEN = "eyJ0b2tlbg"
SCRAPER = {"username": "prometheus", "groups": ["system:serviceaccounts"]}


class Reviews:
    """An API that knows one token and grants some subresources of edge-1."""

    def __init__(self, *granted: str, error: Exception | None = None) -> None:
        self.granted = granted
        self.error = error
        self.kube = ScriptedKube(self.answer)
        self.callers = Callers(ApiClientSettings(), Reviewer(self.kube))

    def answer(self, method: str, path: str) -> Answer:
        if self.error:
            return self.error
        body = self.kube.bodies[-1]
        assert body is not None
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            is_known = spec["token"] == TOKEN
            return {"status": {"authenticated": is_known} | ({"user": SCRAPER} if is_known else {})}
        asked = spec["resourceAttributes"]
        allowed = asked["name"] == "edge-1" and asked["subresource"] in self.granted
        return {"status": {"allowed": allowed}}

    async def call(
        self,
        path: str = "/metrics",
        *,
        method: str = "GET",
        header: str = f"Bearer {TOKEN}",
        certificate: Mapping[str, object] | None = None,
    ) -> User | None:
        """As the stream server does, for a request that is for edge-1."""
        request = RequestHead(method, path, (("Authorization", header),))
        user = await self.callers.check(certificate, request)
        if user:
            await self.callers.authorize(user, request, "edge-1")
        return user


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
async def test_a_token_that_the_api_knows_and_grants_may_call(header: str) -> None:
    reviews = Reviews("metrics")
    user = await reviews.call("/metrics/cadvisor", header=header)
    assert user == User("prometheus", "", ("system:serviceaccounts",))
    assert reviews.kube.bodies[-1] == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "prometheus",
            "uid": "",
            "groups": ["system:serviceaccounts"],
            "extra": {},
            "resourceAttributes": {
                "verb": "get",
                "version": "v1",
                "resource": "nodes",
                "subresource": "metrics",
                "name": "edge-1",
            },
        },
    }


async def test_an_unknown_token_is_told_the_kubelets_word() -> None:
    with pytest.raises(TokenRefused) as raised:
        await Reviews("metrics").call(header="Bearer other")
    assert (str(raised.value), raised.value.http_status) == ("Unauthorized", 401)


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "/metrics", "verb=get, resource=nodes, subresource(s)=[metrics]"),
        ("POST", "/exec/ns/web/app", "verb=create, resource=nodes, subresource(s)=[proxy]"),
        ("GET", "/pods", "verb=get, resource=nodes, subresource(s)=[pods proxy]"),
        ("HEAD", "/logs/", "verb=, resource=nodes, subresource(s)=[log]"),
    ],
)
async def test_what_is_not_granted_is_told_in_the_kubelets_words(
    method: str, path: str, text: str
) -> None:
    with pytest.raises(TokenForbidden) as raised:
        await Reviews("stats").call(path, method=method)
    assert str(raised.value) == f"Forbidden (user=prometheus, {text})"
    assert raised.value.http_status == 403


@pytest.mark.parametrize("granted", ["pods", "proxy"])
async def test_either_of_two_rights_will_do(granted: str) -> None:
    assert await Reviews(granted).call("/pods")


@pytest.mark.parametrize("header", ["Basic x", "Bearer", "Bearer ", TOKEN, "Bearer " + "x" * 17000])
async def test_what_is_no_bearer_token_is_none(header: str) -> None:
    reviews = Reviews("metrics")
    with pytest.raises(Unauthenticated) as raised:
        await reviews.call(header=header)
    assert not isinstance(raised.value, TokenRefused)
    assert reviews.kube.requests == []


async def test_an_api_server_needs_no_token_and_others_may_show_one_beside_a_certificate() -> None:
    reviews = Reviews("metrics")
    certificate = peercert("kube-apiserver-kubelet-client")
    assert await reviews.call(header="Bearer other", certificate=certificate) is None
    assert reviews.kube.requests == []
    kubelet = peercert("system:node:edge-2", "system:nodes")
    assert await reviews.call(certificate=kubelet)
    with pytest.raises(TokenRefused):
        await reviews.call(header="Bearer other", certificate=kubelet)


async def test_an_api_that_is_away_is_no_refusal() -> None:
    reviews = Reviews("metrics")
    await reviews.call()
    reviews.error = LookupFailed("the API is away")
    await reviews.call()  # known, and allowed, from memory
    with pytest.raises(LookupFailed, match="the API is away"):
        await reviews.call(header="Bearer other")
    with pytest.raises(LookupFailed, match="the API is away"):
        await reviews.call("/stats/summary")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/stats/summary", "stats"),
        ("/metrics", "metrics"),
        ("/metrics/", "metrics"),
        ("/metrics/resource", "metrics"),
        ("/%6detrics", "metrics"),
        ("/metricsx", "proxy"),
        ("/logs/x", "log"),
        ("/checkpoint/ns/pod/c", "checkpoint"),
        ("/runningpods/", "pods proxy"),
        ("/healthz", "healthz proxy"),
        ("/configz", "configz proxy"),
        ("/containerLogs/ns/pod/c", "proxy"),
        ("/", "proxy"),
        ("", "proxy"),
        ("*", "proxy"),
        ("//metrics", "proxy"),
        ("/metrics/../exec/ns/pod/c", "proxy"),
        ("/metrics/%2e%2e/exec/ns/pod/c", "proxy"),
        ("/metrics%2F..%2Fexec/ns/pod/c", "proxy"),
        ("/metrics/%252e%252e/exec", "proxy"),
        ("/metrics/..", "proxy"),
        ("/./metrics", "proxy"),
        ("http://x/metrics", "proxy"),
    ],
)
def test_a_path_needs_what_a_kubelet_would_ask_for(path: str, expected: str) -> None:
    assert subresources_of(path) == tuple(expected.split())


def test_errors_of_tokens_are_told_bare() -> None:
    for error, status in ((TokenRefused("Unauthorized"), 401), (TokenForbidden("Forbidden"), 403)):
        head, body = error_answer(error, Subject("metrics"))
        assert (head.status, body) == (status, str(error).encode())
