"""``kubectl logs``: a pod's log request, turned into the kubelet's and back."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlencode

from lab.apiserver.call import TEXT_HEADERS, Call, container_named
from lab.apiserver.gotext import NOT_TLS, pooled_words, quote
from lab.apiserver.kubelet import Answer, KubeletClient
from lab.apiserver.kubeletwire import KubeletFailure
from lab.apiserver.status import bad_request, from_log_answer, invalid, plain_error
from lab.apiserver.store import timestamp
from lab.apiserver.world import World
from streamkit.wire.exchange import RequestHead, header_values

ERROR_BODY_LIMIT = 50_000

_LEAST = {"limitBytes": 1, "sinceSeconds": 1, "tailLines": 0}
_FLAGS = ("follow", "previous", "timestamps")


async def serve_log(
    call: Call, world: World, kubelets: KubeletClient, namespace: str, name: str
) -> None:
    """Answer a pod's log; a body that the kubelet breaks off just ends, as the real one ends it.

    Raises ApiError for bad options, an unknown pod or container, and whatever the kubelet refuses.
    """
    options = _log_options(call, name)
    pod = await world.get_pod(namespace, name)
    container = container_named(pod, call.option("container"))
    if not (node_name := pod["spec"].get("nodeName")):
        await call.connection.answer(200, TEXT_HEADERS, b"")
        return
    port = world.kubelet_port(node_name, resource="pods")
    target = f"/containerLogs/{namespace}/{name}/{container}"
    if options:
        target += f"?{urlencode(sorted(options.items()))}"
    headers = (("Host", port.netloc), ("User-Agent", "Go-http-client/1.1"))
    verify = not call.flag("insecureSkipTLSVerifyBackend")
    try:
        async with kubelets.fetch(
            port, RequestHead("GET", target, headers), verify=verify
        ) as answer:
            await _refuse_if_refused(answer, name)
            await call.connection.start(200, TEXT_HEADERS)
            await _send_body(call, answer.chunks)
    except KubeletFailure as failure:
        words = failure.sentence
        if words == NOT_TLS:
            words = "http: server gave HTTP response to HTTPS client"
        words = f'Get "https://{port.netloc}{target}": {pooled_words(words)}'
        raise plain_error(words) from failure


async def _send_body(call: Call, chunks: AsyncIterator[bytes]) -> None:
    try:
        async for chunk in chunks:
            await call.connection.send_data(chunk)
    except KubeletFailure:
        pass  # what came has been sent, and a cut log can't be told from a complete one
    await call.connection.finish()


async def _refuse_if_refused(answer: Answer, pod_name: str) -> None:
    status = answer.head.status
    if 200 <= status <= 206:
        return
    if 300 <= status < 400:
        place = header_values(answer.head.headers, "location")[:1] or [""]
        raise plain_error(f"Get {quote(place[0])}: redirects forbidden")
    body = bytearray()
    async for chunk in answer.chunks:
        body += chunk
        if len(body) >= ERROR_BODY_LIMIT:
            break
    text = bytes(body[:ERROR_BODY_LIMIT]).decode(errors="replace")
    raise from_log_answer(status, text, pod_name)


def _log_options(call: Call, pod_name: str) -> dict[str, str]:
    """The kubelet's query: what is off or absent is left out. Raises ApiError 400 and 422."""
    options = {name: "true" for name in _FLAGS if call.flag(name)}
    problems = []
    for name, least in _LEAST.items():
        if (number := call.number(name)) is None:
            continue
        if number < least:
            what = "greater than or equal to 0" if least == 0 else f"greater than {least - 1}"
            problems.append(f"{name}: Invalid value: {number}: must be {what}")
        options[name] = str(number)
    if text := call.option("sinceTime"):
        options["sinceTime"] = _whole_seconds(text)
        if "sinceSeconds" in options:
            words = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            problems.append(f"sinceSeconds: Forbidden: {words}")
    if problems:
        raise invalid("PodLogOptions", pod_name, problems)
    return options


def _whole_seconds(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_request(f"sinceTime: {text!r} is not a time") from error
    return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
