"""``/debug``: a kubelet's pages about its own process, which are off here as they can be there."""

from edgestream.answers import UNSNIFFED_TEXT, KubeletAnswer
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.router import Parameters, moved, page_not_found


async def refuse_debugging(exchange: Exchange, parameters: Parameters) -> None:
    """Raise the KubeletAnswer that a kubelet gives where profiling and flags are disabled."""
    page, has_slash = parameters.get("page", ""), exchange.request.path.endswith("/")
    if page == "pprof" and not has_slash:
        raise moved(exchange.request, "/debug/pprof/")
    if page.partition("/")[0] == "pprof":
        raise _disabled("profiling")
    if page == "flags/v" and not has_slash:
        raise _disabled("flags")
    raise page_not_found()


def _disabled(what: str) -> KubeletAnswer:
    return KubeletAnswer(405, f"{what} endpoint is disabled.\n", headers=UNSNIFFED_TEXT)
