"""Runs a handler and sees to it that every request is answered."""

import logging
import traceback

from edgestream.kubelet.exchange import Exchange, KubeletHandler
from edgestream.kubelet.render import error_answer
from streamkit.errors import BackendError, IncompleteAnswer, StreamError
from streamkit.wire.exchange import RequestHead, ResponseHead

_log = logging.getLogger(__name__)


async def answer(handler: KubeletHandler, exchange: Exchange) -> None:
    """Serve one request in full.

    An error before the head becomes an HTTP answer. One that comes later is raised as a
    ``StreamError``, for the owner of the exchange to reset it. What a handler raises by mistake is
    logged, in one line and without anything the request carried, and told as an internal error.
    Cancelling cancels the handler.
    """
    watched = _WatchedExchange(exchange)
    try:
        await handler.serve(watched)
        return
    except StreamError as error:
        if watched.has_head:
            raise
        failure = error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.error(
            "%s %s: %s at %s:%s",
            exchange.request.method,
            exchange.request.path,
            type(error).__name__,
            place.filename,
            place.lineno,
        )
        if watched.has_head:
            raise IncompleteAnswer("the answer broke off: internal error") from error
        failure = BackendError("internal error")
    head, body = error_answer(failure)
    await exchange.send_head(head)
    if body and exchange.request.method != "HEAD":
        await exchange.write(body)
    await exchange.end()


class _WatchedExchange:
    """An exchange that remembers whether its head was sent."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.has_head = False
        self.write = exchange.write
        self.end = exchange.end
        self.read = exchange.read

    @property
    def request(self) -> RequestHead:
        return self._exchange.request

    async def send_head(self, head: ResponseHead) -> None:
        self.has_head = True
        await self._exchange.send_head(head)
