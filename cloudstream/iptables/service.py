"""The parts of ``cloudstream iptables`` put together."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from cloudstream.health import api_check
from cloudstream.iptables.host import check_network, is_local
from cloudstream.iptables.manager import IptablesManager
from cloudstream.iptables.tool import installed
from cloudstream.iptables.view import ForwardingView, Scope
from cloudstream.kube.api import AsyncioKubeApi
from cloudstream.kube.duty import DutyStatus
from cloudstream.metrics import api_metrics
from streamkit.errors import ConfigInvalid, LookupFailed, PacketFilterError
from streamkit.service.admin import AdminServer
from streamkit.service.config import split_address
from streamkit.service.health import Check, Outcome, Verdict, pending_unless
from streamkit.service.logs import RepeatLimiter
from streamkit.service.metrics import build_metrics, counter, metrics_registry
from streamkit.service.tasks import spawn

log = logging.getLogger(__name__)

_API_DEADLINE = 10.0
"""Seconds for one answer of the Kubernetes API."""
_FIRST_VIEW = 30.0
"""Seconds in which the record and the nodes have to be known, where it is done once."""
_DEBOUNCE = 0.2
"""Seconds for changes that come together to be seen together."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    kube_config: str
    stream_port: int
    is_internal: bool
    scope: Scope
    host_address: str
    interval: float
    admin_address: str


class _Work:
    def __init__(
        self,
        api: AsyncioKubeApi,
        view: ForwardingView,
        manager: IptablesManager,
        options: Options,
        changed: asyncio.Event,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.tasks = tasks
        self.api = api
        self.view = view
        self.manager = manager
        self._options = options
        self._changed = changed
        self._limiter = RepeatLimiter(600.0)
        self.trouble = ""
        """Why the last pass failed; empty where it did not."""
        self.passes: Counter[tuple[str]] = Counter()
        """Passes so far, by whether they "corrected" something, found all "right", or "failed"."""

    async def known(self) -> None:
        """Wait for a first view. Raises LookupFailed where it takes too long."""
        try:
            async with asyncio.timeout(_FIRST_VIEW):
                while self.view.lacks:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LookupFailed(self.view.lacks) from None
        self._check_place()

    async def sync(self) -> None:
        """One pass. Raises PacketFilterError."""
        for problem in self.view.problems():
            self.warn(problem)
        try:
            self._check_place()
            corrected = await self.manager.sync(self.view.wanted())
        except PacketFilterError as error:
            self.trouble = str(error)
            self.passes["failed",] += 1
            raise
        self.trouble = ""
        self.passes["corrected" if corrected else "right",] += 1

    async def keep(self) -> None:
        """Pass after pass until cancelled; what fails is told, and tried again."""
        is_first = True
        while True:
            self._changed.clear()
            if lacks := self.view.lacks:
                self.warn(f"the rules stay as they are: {lacks}")
            else:
                try:
                    await self.sync()
                except PacketFilterError as error:
                    if is_first:
                        raise
                    self.warn(str(error))
                is_first = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.interval):
                    await self._changed.wait()
                    await asyncio.sleep(_DEBOUNCE)

    def _check_place(self) -> None:
        addresses = self.view.cloud_addresses()
        if self._options.is_internal and addresses and not any(map(is_local, addresses)):
            raise PacketFilterError(
                f"none of the cloud services ({', '.join(addresses)}) is on this host",
                hint="use --mode external, or run the pod with hostNetwork: true",
            )

    def warn(self, sentence: str) -> None:
        if (repeats := self._limiter.admit(sentence)) is not None:
            log.warning("%s%s", sentence, repeats)


async def run(options: Options) -> None:
    """Keep the rules until cancelled; they stay then.

    Raises PacketFilterError, ConfigInvalid or PortInUse, before anything is changed, where it can't
    begin.
    """
    async with _working(options) as work:
        admin = AdminServer(_checks(work), metrics_registry(lambda: _metrics(work)))
        if options.admin_address:
            admin.bind(*split_address(options.admin_address))
        spawn(admin.serve(), name="admin", owner=work.tasks)
        await work.keep()


def _checks(work: _Work) -> dict[str, Check]:
    """Without a view there is nothing to be done yet; rules that can't be written are a fault."""

    async def rules() -> Outcome:
        if work.trouble:
            return Outcome(Verdict.FAILED, work.trouble)
        return pending_unless(not work.view.lacks, work.view.lacks)

    return {"rules": rules, "kubernetes-api": api_check(work.api)}


def _metrics(work: _Work) -> Iterator[Metric]:
    yield from build_metrics("cloudstream")
    text = "Looks at the rules, by what became of them."
    yield counter("cloudstream_iptables_passes", text, ("outcome",), work.passes.items())
    is_pending = bool(work.view.lacks or work.trouble)
    status = DutyStatus(int(is_pending), work.view.lacks or work.trouble)
    yield from api_metrics(work.api, {"iptables": status})


async def sync_once(options: Options) -> None:
    """Put the rules right. Raises PacketFilterError, ConfigInvalid or LookupFailed."""
    async with _working(options) as work:
        await work.known()
        await work.sync()


async def plan(options: Options) -> tuple[str, bool]:
    """What ``sync_once`` would apply, and whether that is anything. Raises as that does."""
    async with _working(options) as work:
        await work.known()
        for problem in work.view.problems():
            work.warn(problem)
        return await work.manager.plan(work.view.wanted())


async def clean_up() -> int:
    """Remove chain and jumps; how many rule sets had some. Raises PacketFilterError."""
    return await IptablesManager(await installed()).remove()


@contextlib.asynccontextmanager
async def _working(options: Options) -> AsyncIterator[_Work]:
    check_network(options.host_address)
    manager = IptablesManager(await installed())
    if not AsyncioKubeApi.is_configured(master="", kube_config=options.kube_config):
        raise ConfigInvalid("there is no Kubernetes API to ask", hint="give it with --kubeconfig")
    api = AsyncioKubeApi(master="", kube_config=options.kube_config, deadline=_API_DEADLINE)
    changed = asyncio.Event()
    view = ForwardingView(api, options.scope, stream_port=options.stream_port, changed=changed.set)
    try:
        async with asyncio.TaskGroup() as group:
            following = spawn(view.run(), name="API view", owner=group)
            yield _Work(api, view, manager, options, changed, group)
            following.cancel()
    finally:
        await api.close()
