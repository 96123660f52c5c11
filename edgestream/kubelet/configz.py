"""``/configz``: how this node's kubelet service is set up, as far as a kubelet's settings go."""

from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.reply import JSON, reply, to_json
from edgestream.kubelet.router import Parameters


class Configz:
    """The route: the settings of a kubelet's own configuration that mean something here."""

    def __init__(self, *, endpoint: str, call_deadline: float, has_node_logs: bool) -> None:
        self._document = {
            "kubeletconfig": {
                "enableServer": True,
                "containerRuntimeEndpoint": endpoint,
                "runtimeRequestTimeout": f"{call_deadline:g}s",
                "enableDebuggingHandlers": True,
                "enableSystemLogHandler": has_node_logs,
                "enableSystemLogQuery": False,
                "enableProfilingHandler": False,
                "enableDebugFlagsHandler": False,
            }
        }

    async def show(self, exchange: Exchange, parameters: Parameters) -> None:
        """Send the document."""
        headers = (*JSON, ("X-Content-Type-Options", "nosniff"))
        await reply(exchange, to_json(self._document), headers)
