"""``/run`` and ``/checkpoint``: what the runtime does with a container in a single call."""

import re
from datetime import datetime
from pathlib import Path

from edgestream.answers import KubeletAnswer
from edgestream.cri.client import CriClient
from edgestream.cri.lookup import RuntimePod
from edgestream.kubelet.exchange import Exchange
from edgestream.kubelet.pod_of import existing_pod
from edgestream.kubelet.query import parse_query
from edgestream.kubelet.reply import JSON, reply, require_json_wanted, to_json
from edgestream.kubelet.router import Parameters
from streamkit.errors import StreamError

RUN_DEADLINE = 4 * 3600.0
"""Seconds for a command, which has no deadline of its own; a kubelet cuts any answer by then."""

CHECKPOINT_DEADLINE = 120.0
"""Seconds for a checkpoint where the request names none."""

_INT64 = re.compile(r"[+-]?[0-9]{1,18}")


class SingleCalls:
    """The two routes; ``checkpoint_directory`` is the node's, for archives of containers."""

    def __init__(self, client: CriClient, *, checkpoint_directory: Path) -> None:
        self._client = client
        self._checkpoint_directory = checkpoint_directory

    async def run(self, exchange: Exchange, parameters: Parameters) -> None:
        """Run a command to its end and send all that it wrote, stdout first.

        The command is split at each space, without any quoting; without one it is an empty word. A
        uid in the path is not compared. Raises a KubeletAnswer for a command that fails.
        """
        pod = await existing_pod(self._client, exchange.request, parameters)
        command = parse_query(exchange.request.query).get("cmd", [""])[0].split(" ")
        container = pod.running_container(parameters["container"])
        if container is None:
            raise KubeletAnswer(500, f'container not found ("{parameters["container"]}")')
        try:
            done = await self._client.exec_sync(container.id, command, deadline=RUN_DEADLINE)
        except StreamError as error:
            raise KubeletAnswer(500, str(error)) from error
        if done.exit_code:
            stderr = done.stderr.decode(errors="replace")
            words = " ".join(command)
            raise KubeletAnswer(500, f"command '{words}' exited with {done.exit_code}: {stderr}")
        output = done.stdout + done.stderr
        await reply(exchange, output, JSON if output else ())

    async def checkpoint(self, exchange: Exchange, parameters: Parameters) -> None:
        """Have the runtime write a container's state to a file, and send the file's name.

        Raises a KubeletAnswer where that fails, as with any runtime that can't.
        """
        require_json_wanted(exchange.request)
        pod = await existing_pod(self._client, exchange.request, parameters)
        name = parameters["container"]
        facts = pod.own_facts
        is_specified = facts is not None and facts.container(name) is not None
        if pod.log_attempts(name)[0] is None and not is_specified:
            raise KubeletAnswer(404, f"container {name} does not exist")
        seconds = _timeout(exchange.request.query)
        try:
            location = await self._checkpoint(pod, name, seconds)
        except StreamError as error:
            place = f"{pod.namespace}/{pod.name}/{name}"
            raise KubeletAnswer(500, f"checkpointing of {place} failed ({error})") from error
        await reply(exchange, to_json({"items": [location]}), JSON)

    async def _checkpoint(self, pod: RuntimePod, name: str, seconds: int) -> str:
        container = pod.running_container(name)
        if container is None:
            raise KubeletAnswer(500, f"container {name} not found")
        if seconds < 0:
            raise KubeletAnswer(500, "CheckpointContainer requires the timeout value to be > 0")
        now = datetime.now().astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")
        file_name = f"checkpoint-{pod.full_name}-{name}-{now}.tar"
        location = str(self._checkpoint_directory / file_name)
        deadline = min(seconds or CHECKPOINT_DEADLINE, RUN_DEADLINE)
        await self._client.checkpoint(container.id, location, deadline=deadline)
        return location


def _timeout(query: str) -> int:
    """The last timeout that the query names, in seconds; 0 for none."""
    value = parse_query(query).get("timeout", ["0"])[-1]
    if not _INT64.fullmatch(value):
        raise KubeletAnswer(404, "cannot parse value of timeout parameter")
    return int(value)
