"""``/exec`` and ``/attach``: a command, or a container's own process, with its streams."""

from dataclasses import dataclass

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.cri_pb2 import AttachRequest, ExecRequest
from edgestream.cri.verbose import verbose_info
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.pod_of import existing_pod
from edgestream.kubelet.query import is_one, parse_query
from edgestream.kubelet.router import Parameters
from edgestream.kubelet.runtime_stream import stream
from streamkit.wire.exchange import header_values

MAX_FORM = 1 << 16
"""Bytes of a form, of which what is read are four digits."""

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams are wanted, and the command to run."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    command: tuple[str, ...]


def parse_stream_options(query: str, form: str = "") -> StreamOptions:
    """The options; a tty has no stderr. Raises a KubeletAnswer for no stream at all.

    Those of a form that was posted come first; the command is the query's alone.
    """
    command = parse_query(query).get("command", ())
    values = parse_query(f"{form}&{query}")
    tty = is_one(values, "tty")
    options = StreamOptions(
        stdin=is_one(values, "input"),
        stdout=is_one(values, "output"),
        stderr=is_one(values, "error") and not tty,
        tty=tty,
        command=tuple(command),
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise KubeletAnswer(400, "you must specify at least 1 of stdin, stdout, stderr")
    return options


async def _posted_form(exchange: Exchange) -> str:
    """The form that comes as a plain request's body; empty where there is none."""
    request = exchange.request
    kinds = header_values(request.headers, "content-type")[:1]
    is_form = any(kind.partition(";")[0].strip().lower() == _FORM for kind in kinds)
    if request.is_upgrade or request.method != "POST" or not (is_form and request.has_body):
        return ""
    form = bytearray()
    while len(form) <= MAX_FORM and (data := await exchange.read()):
        form += data
    return form[:MAX_FORM].decode("latin-1")


class RemoteCommand:
    """The two routes; ``dial_deadline`` is the streaming server's, in seconds.

    Both check the query, then the pod, then ask the runtime, and relay its streaming server.
    """

    def __init__(self, client: CriClient, *, dial_deadline: float) -> None:
        self._client = client
        self._dial_deadline = dial_deadline

    async def execute(self, exchange: Exchange, parameters: Parameters) -> None:
        """Run a command in a running container; a uid in the path is not compared."""
        options = parse_stream_options(exchange.request.query, await _posted_form(exchange))
        pod = await existing_pod(self._client, exchange.request, parameters)
        name = parameters["container"]
        container = pod.running_container(name)
        if container is None:
            raise KubeletAnswer(500, f'container not found ("{name}")')
        request = ExecRequest(
            container_id=container.id,
            tty=options.tty,
            stdin=options.stdin,
            stdout=options.stdout,
            stderr=options.stderr,
        )
        try:
            request.cmd.extend(options.command)
        except UnicodeEncodeError as error:
            raise KubeletAnswer(
                500,
                "rpc error: code = Internal desc = grpc: error while marshaling:"
                " string field contains invalid UTF-8",
            ) from error
        url = await self._client.exec_url(request)
        outputs = options.stdout + options.stderr
        await stream(exchange, url, dial_deadline=self._dial_deadline, outputs=outputs)

    async def attach(self, exchange: Exchange, parameters: Parameters) -> None:
        """Join a running container's own process; whether that has a tty is the container's."""
        options = parse_stream_options(exchange.request.query, await _posted_form(exchange))
        pod = await existing_pod(self._client, exchange.request, parameters)
        name, uid = parameters["container"], parameters.get("uid")
        container = pod.running_container(name)
        if container is None:
            raise KubeletAnswer(500, f"container {name} not found in pod {pod.full_name}")
        if uid is not None and not pod.has_uid(uid, pod.active_uid or ""):
            raise KubeletAnswer(500, f"pod {pod.full_name} not found")
        request = AttachRequest(
            container_id=container.id,
            tty=await self._has_tty(container.id, asked=options.tty),
            stdin=options.stdin,
            stdout=options.stdout,
            stderr=options.stderr,
        )
        url = await self._client.attach_url(request)
        await stream(exchange, url, dial_deadline=self._dial_deadline)

    async def _has_tty(self, container_id: str, *, asked: bool) -> bool:
        """Whether the container was made with a tty; what was asked for if the runtime is silent.

        Only the verbose status tells.
        """
        status = await self._client.container_status(container_id, verbose=True)
        config = verbose_info(status.info).get("config")
        return config.get("tty", False) is True if isinstance(config, dict) else asked
