"""What a kubelet request is about, read from its path."""

from dataclasses import dataclass
from urllib.parse import unquote

from streamkit.wire.exchange import RequestHead, header_values

_POD_ROOTS = frozenset(
    ("containerLogs", "exec", "attach", "portForward", "run", "checkpoint", "cri")
)
_NODE_PROXY = ("api", "v1", "nodes")


@dataclass(frozen=True, slots=True)
class Subject:
    """The pod or the node that a request names; empty where it names none."""

    root: str
    namespace: str = ""
    pod_name: str = ""
    node_name: str = ""

    @property
    def is_logs(self) -> bool:
        """Whether the API server treats the answer as a container's log."""
        return self.root == "containerLogs"


def subject_of(request: RequestHead) -> Subject:
    """Read path and ``X-Forwarded-Uri``.

    The API server's node proxy puts the path that its client asked for into ``X-Forwarded-Uri``:
    ``/api/v1/nodes/<name>/proxy/...``. Names are percent-decoded after splitting.
    """
    parts = [unquote(part) for part in request.path.split("/")[1:]]
    root = parts[0] if parts else ""
    node_name = _proxied_node(request)
    if root in _POD_ROOTS and len(parts) > 2:
        return Subject(root, parts[1], parts[2], node_name)
    return Subject(root, node_name=node_name)


def _proxied_node(request: RequestHead) -> str:
    for uri in header_values(request.headers, "x-forwarded-uri"):
        parts = uri.partition("?")[0].split("/")[1:]
        if tuple(parts[:3]) == _NODE_PROXY and len(parts) > 4 and parts[4] == "proxy":
            return _node_name(unquote(parts[3]))
    return ""


def _node_name(proxied: str) -> str:
    """The name in ``name``, ``name:port`` or ``scheme:name:port``."""
    pieces = proxied.split(":")
    return pieces[1] if len(pieces) == 3 else pieces[0]
