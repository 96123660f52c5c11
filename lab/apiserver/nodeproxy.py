"""``/api/v1/nodes/NAME/proxy/...``: any request passed on to a node's kubelet port."""

from ipaddress import ip_address

from lab.apiserver.call import Call, forwarded_headers
from lab.apiserver.gotext import pooled_words
from lab.apiserver.kubelet import Answer, KubeletClient, KubeletPort
from lab.apiserver.kubeletwire import KubeletFailure
from lab.apiserver.status import bad_request, service_unavailable
from lab.apiserver.upgrade import pass_upgrade
from lab.apiserver.world import World
from streamkit.http.headers import end_to_end
from streamkit.wire.exchange import RequestHead


async def serve_node_proxy(
    call: Call, world: World, kubelets: KubeletClient, name: str, rest: str
) -> None:
    """Pass a request on to ``rest``, the path behind ``/proxy`` still percent-encoded.

    The name may be ``NODE``, ``NODE:PORT`` or ``SCHEME:NODE:PORT``. An answer that breaks off is
    broken off towards the client. An upgrade goes on without its query, as the real one drops it.
    Raises ApiError 400 for an address that is not global unicast, 404, and 503 if the node can't
    be reached.
    """
    port = _named_port(world, name)
    address = ip_address(port.host)
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        raise bad_request("address not allowed")
    target = rest or "/"
    if call.head.is_upgrade:
        await pass_upgrade(call, kubelets, port, target)
        return
    if call.head.query:
        target += f"?{call.head.query}"
    headers = forwarded_headers(
        call, keep_upgrade=False, more=(("X-Forwarded-Uri", call.head.path),)
    )
    request = RequestHead(call.head.method, target, headers)
    try:
        async with kubelets.fetch(port, request, call.body) as answer:
            await _pass_answer(call, answer)
    except KubeletFailure as failure:
        if call.connection.answered:
            call.connection.abort()
            return
        words = f"error trying to reach service: {pooled_words(failure.sentence)}"
        raise service_unavailable(words) from failure


async def _pass_answer(call: Call, answer: Answer) -> None:
    prefix = call.head.path.partition("/proxy")[0] + "/proxy"
    headers = [
        (name, prefix + value if name.lower() == "location" and value.startswith("/") else value)
        for name, value in end_to_end(answer.head.headers)
    ]
    await call.connection.start(answer.head.status, headers)
    async for chunk in answer.chunks:
        await call.connection.send_data(chunk)
    await call.connection.finish()


def _named_port(world: World, name: str) -> KubeletPort:
    """A port in the name leads past the published one, and past ``dial``, unless it is the same."""
    parts = name.split(":")
    node_name, number = (parts[0], "") if len(parts) == 1 else (parts[-2], parts[-1])
    port = world.kubelet_port(node_name, resource="nodes")
    if not number or number == str(port.port):
        return port
    if not number.isdigit():
        raise bad_request(f"invalid node request {name!r}")
    return KubeletPort(port.host, int(number))
