"""``/healthz``: whether this node's kubelet service works."""

from collections import Counter
from collections.abc import Awaitable, Callable

from edgestream.answers import PLAIN_TEXT, UNSNIFFED_TEXT, KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.query import parse_query
from edgestream.kubelet.router import Parameters, page_not_found
from streamkit.errors import StreamError
from streamkit.wire.exchange import Headers, ResponseHead

Check = Callable[[], Awaitable[object]]


class Health:
    """The route. A kubelet's ``syncloop`` stalls without its runtime, so that is what is checked.

    ``ping`` and ``log`` hold wherever there is an answer at all. Whether a check passed when all
    were asked for is kept: the last of its ``outcomes``, and the ``counts`` of either.
    """

    def __init__(self, client: CriClient) -> None:
        self._checks: dict[str, Check] = {
            "ping": _pass,
            "log": _pass,
            "syncloop": client.version,
        }
        self.outcomes: dict[str, bool] = {}
        self.counts: Counter[tuple[str, bool]] = Counter()

    async def report(self, exchange: Exchange, parameters: Parameters) -> None:
        """All checks, or the one that the path names. Raises a KubeletAnswer where one fails."""
        if "check" in parameters:
            await self._report_one(exchange, parameters["check"])
        else:
            await self._report_all(exchange)

    def reset(self) -> None:
        """Forget how checks went."""
        self.outcomes.clear()
        self.counts.clear()

    async def _report_one(self, exchange: Exchange, name: str) -> None:
        check = self._checks.get(name)
        if check is None:
            raise page_not_found()
        if failure := await _failure(check):
            body = f"internal server error: {failure}\n"
            raise KubeletAnswer(500, body, headers=UNSNIFFED_TEXT)
        await _reply(exchange, "ok", PLAIN_TEXT)

    async def _report_all(self, exchange: Exchange) -> None:
        values = parse_query(exchange.request.query)
        excluded = values.get("exclude", [])
        lines, is_healthy = [], True
        for name, check in self._checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok\n")
                continue
            has_passed = await _failure(check) is None
            self.outcomes[name] = has_passed
            self.counts[name, has_passed] += 1
            lines.append(
                f"[+]{name} ok\n" if has_passed else f"[-]{name} failed: reason withheld\n"
            )
            is_healthy = is_healthy and has_passed
        if not is_healthy:
            body = f"{''.join(lines)}healthz check failed\n"
            raise KubeletAnswer(500, body, headers=UNSNIFFED_TEXT)
        verbose = f"{''.join(lines)}healthz check passed\n"
        await _reply(exchange, verbose if "verbose" in values else "ok", UNSNIFFED_TEXT)


async def _pass() -> None:
    pass


async def _failure(check: Check) -> StreamError | None:
    try:
        await check()
    except StreamError as error:
        return error
    return None


async def _reply(exchange: Exchange, body: str, headers: Headers) -> None:
    length = ("Content-Length", str(len(body)))
    await exchange.send_head(ResponseHead(200, (*headers, length)))
    if exchange.request.method != "HEAD":
        await exchange.write(body.encode())
    await exchange.end()
