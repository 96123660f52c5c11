"""The kubelet service, served by a real kubelet on this host."""

from contextlib import AsyncExitStack, closing

from edgestream.kubelet.backend_connection import BackendConnection
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.relay import alongside, relay_answer, relay_upgrade
from streamkit.errors import BadRequest, StreamError, StreamingDialFailed
from streamkit.http.headers import end_to_end
from streamkit.wire import pod_facts
from streamkit.wire.exchange import Headers, RequestHead, header_values, without_headers

_HINT = "check that the kubelet runs and that its plain HTTP port is the configured one"


class KubeletBackend:
    """A ``KubeletHandler`` that puts every request to a kubelet's plain HTTP port.

    ``dial_deadline`` is in seconds. The caller gives method, target and headers; where they go is
    this backend's configuration alone. How long an answer may take is the caller's to say.

    Raises StreamingDialFailed where the kubelet can't be reached or gives no answer, BadRequest for
    a request that can't be put, IncompleteAnswer where an answer breaks off.
    """

    def __init__(self, address: str, port: int, *, dial_deadline: float) -> None:
        self._address = address
        self._port = port
        self._dial_deadline = dial_deadline

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request as the kubelet does. Cancelling drops the kubelet's connection."""
        request = _outgoing(exchange.request)
        has_body = request.has_body
        try:
            connection = await BackendConnection.dial(
                self._address, self._port, deadline=self._dial_deadline
            )
        except StreamingDialFailed as error:
            raise self._unanswered("can't be reached", error) from error
        async with AsyncExitStack() as stack:
            stack.enter_context(closing(connection))
            try:
                await connection.send_head(request, has_body=has_body)
                if has_body:
                    body = _send_body(exchange, connection)
                    await stack.enter_async_context(alongside(body, name="relay-request-body"))
                head = await connection.response_head()
            except StreamingDialFailed as error:
                raise self._unanswered("gave no answer", error) from error
            relay = relay_upgrade if head.status == 101 else relay_answer
            await relay(exchange, connection, head)

    async def check(self) -> None:
        """Raise StreamingDialFailed where the kubelet can't be reached."""
        try:
            connection = await BackendConnection.dial(
                self._address, self._port, deadline=self._dial_deadline
            )
        except StreamingDialFailed as error:
            raise self._unanswered("can't be reached", error) from error
        connection.close()

    async def close(self) -> None:
        """Nothing is kept between requests."""

    def _unanswered(self, what: str, error: StreamingDialFailed) -> StreamingDialFailed:
        sentence = f"the kubelet on {self._address}:{self._port} {what}: {error}"
        return StreamingDialFailed(sentence, hint=_HINT)


def _outgoing(request: RequestHead) -> RequestHead:
    """The request as it is put: same method, target and headers, but for one connection's own."""
    if not request.target.startswith("/"):
        raise BadRequest("the request's target is no path")
    headers = without_headers(end_to_end(request.headers), {"host", pod_facts.HEADER.lower()})
    if request.is_upgrade:
        own: Headers = tuple(
            line for line in request.headers if line[0].lower() in ("connection", "upgrade")
        )
        headers = without_headers(headers, {"content-length"})
    elif header_values(request.headers, "transfer-encoding"):
        own = (("Transfer-Encoding", "chunked"), ("Connection", "close"))
        headers = without_headers(headers, {"content-length"})
    else:
        own = (("Connection", "close"),)
    return RequestHead(request.method, request.target, headers + own)


async def _send_body(exchange: Exchange, connection: BackendConnection) -> None:
    try:
        while data := await exchange.read():
            await connection.send_body(data)
        await connection.end_body()
    except StreamError:
        connection.write_eof()  # the kubelet then answers what it has of the request
