"""One request on its way through the handlers, and the pod and container that it means."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from lab.apiserver.http1 import ClientConnection
from lab.apiserver.identity import Caller
from lab.apiserver.status import bad_request
from lab.apiserver.store import Object
from streamkit.http.headers import HOP_BY_HOP
from streamkit.wire.exchange import Headers, RequestHead

JSON_HEADERS: Headers = (
    ("Cache-Control", "no-cache, private"),
    ("Content-Type", "application/json"),
)
TEXT_HEADERS: Headers = (("Cache-Control", "no-cache, private"), ("Content-Type", "text/plain"))

_NEVER_FORWARDED = ("authorization", "host", "user-agent", "content-length", "x-forwarded-for")


@dataclass(frozen=True, slots=True)
class Call:
    """A request, who sent it, and the connection that takes the answer."""

    connection: ClientConnection
    head: RequestHead
    body: bytes
    caller: Caller

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's names and values in order; a name without a value has an empty one."""
        return parse_qsl(self.head.query, keep_blank_values=True)

    def option(self, name: str) -> str:
        """The first value of a query option; empty if it is absent."""
        return next((value for key, value in self.query if key == name), "")

    def flag(self, name: str) -> bool:
        """A boolean query option: anything but empty, ``0`` and ``false`` is true."""
        return self.option(name).lower() not in ("", "0", "false")

    def number(self, name: str) -> int | None:
        """A whole-number query option, None if it is absent; raises ApiError 400 for another."""
        if not (text := self.option(name)):
            return None
        try:
            return int(text)
        except ValueError as error:
            raise bad_request(f"{name}: {text!r} is not a number") from error

    def json(self) -> Any:
        """The body as JSON; raises ApiError 400."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise bad_request("the request's body is not JSON") from error

    async def answer_json(self, document: Any, status: int = 200) -> None:
        """Send a document as the whole answer."""
        await self.connection.answer(status, JSON_HEADERS, json.dumps(document).encode())


def container_named(pod: Object, wanted: str) -> str:
    """The container that a request means: the one named, or the pod's only one.

    Raises ApiError 400 if there is none of that name, or nothing to choose by. (The annotation of
    a default container is kubectl's business: it then names the container.)
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    regular = [each["name"] for each in spec.get("containers", ())]
    initial = [each["name"] for each in spec.get("initContainers", ())]
    ephemeral = [each["name"] for each in spec.get("ephemeralContainers", ())]
    if wanted:
        if wanted not in (*regular, *initial, *ephemeral):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(regular) == 1:
        return str(regular[0])
    message = f"a container name must be specified for pod {name}"
    if regular:
        message += f", choose one of: [{' '.join(regular)}]"
    if initial:
        message += f" or one of the init containers: [{' '.join(initial)}]"
    raise bad_request(message)


def forwarded_headers(call: Call, *, keep_upgrade: bool, more: Headers = ()) -> Headers:
    """The client's headers as they reach a kubelet: Go's order and spelling, nothing secret.

    Host, User-Agent and Content-Length lead, the others follow by name; X-Forwarded-For tells the
    client's address behind those that the client told itself.
    """
    received = [(_canonical(name), value) for name, value in call.head.headers]
    hosts = [value for name, value in received if name == "X-Forwarded-For"]
    rest = [
        (name, value)
        for name, value in received
        if name.lower() not in _NEVER_FORWARDED
        and not name.startswith("Impersonate-")
        and (name.lower() not in HOP_BY_HOP or (keep_upgrade and name in _UPGRADE_NAMES))
    ]
    rest.append(("X-Forwarded-For", ", ".join([*hosts, call.connection.peer_host])))
    leading = [
        pair
        for wanted in ("Host", "User-Agent", "Content-Length")
        for pair in received
        if pair[0] == wanted
    ]
    return (*leading, *sorted((*rest, *more), key=lambda pair: pair[0]))


_UPGRADE_NAMES = ("Connection", "Upgrade")


def _canonical(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))
