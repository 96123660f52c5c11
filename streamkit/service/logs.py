"""Logging: one line per record on stderr, as text for people or as JSON for machines.

Every line has ``ts level logger msg``; what a record's ``extra`` adds (``node``, ``conn``, ``pod``,
``code``, ...) follows as keys of its own. Verbosity goes by klog's numbers: up to 3 the life cycle
and what goes wrong, 4 each channel, 6 each message by type and size. No verbosity shows payload,
and libraries, some of which would log it, stay at warnings (4 and above: informational lines).
"""

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

DEFAULT_VERBOSITY = 2
DEBUG_VERBOSITY = 4
TRACE_VERBOSITY = 6

TRACE = 5
"""The level of lines about single messages, below DEBUG."""

_OWN_LOGGERS = ("cloudstream", "edgestream", "streamkit")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = frozenset("+,-./:@_")


def configure(verbosity: int, format: LogFormat) -> None:
    """Send all records to stderr in that format; calling it again replaces what was set.

    Stack traces are shown from verbosity 4 on; below, an exception is told by type and text.
    """
    logging.addLevelName(TRACE, "TRACE")
    logging.captureWarnings(True)
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter if format == "json" else TextFormatter
    handler.setFormatter(formatter(tracebacks=verbosity >= DEBUG_VERBOSITY))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbosity >= DEBUG_VERBOSITY else logging.WARNING)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(_own_level(verbosity))


def _own_level(verbosity: int) -> int:
    if verbosity >= TRACE_VERBOSITY:
        return TRACE
    return logging.DEBUG if verbosity >= DEBUG_VERBOSITY else logging.INFO


class _Formatter(logging.Formatter):
    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The keys and values of a record, in the order in which they are shown."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1]:
            error = record.exc_info[1]
            fields["err"] = f"{type(error).__name__}: {error}"
            if self._tracebacks:
                fields["stack"] = self.formatException(record.exc_info)
        return fields


class TextFormatter(_Formatter):
    """``TIME LEVEL logger: message key=value``; a stack, if any, in lines of its own below."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        stack = fields.pop("stack", "")
        ts, level, name, msg = (fields.pop(key) for key in ("ts", "level", "logger", "msg"))
        line = f"{ts} {level.upper():<7} {name}: {one_line(msg)}"
        line += "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        return f"{line}\n{stack}" if stack else line


class JsonFormatter(_Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str, ensure_ascii=False)


def one_line(text: str) -> str:
    """The text with its line breaks and control characters escaped: a peer can't forge a record."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = str(value)
    if text and all(c.isalnum() or c in _PLAIN for c in text):
        return text
    return json.dumps(text, ensure_ascii=False)


class ContextLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every record carries the same keys, such as ``node`` and ``conn``."""

    def __init__(self, logger: logging.Logger, **context: object) -> None:
        super().__init__(logger, context)

    def with_context(self, **context: object) -> "ContextLogger":
        """The same logger with more keys, or other values for some."""
        return ContextLogger(self.logger, **{**(self.extra or {}), **context})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        own: Mapping[str, object] = kwargs.get("extra") or {}
        kwargs["extra"] = {**(self.extra or {}), **own}
        return msg, kwargs


class RepeatLimiter:
    """Lets the same line through once per interval and counts the others.

    The line that is let through next says how often it was held back, as in ``(repeated 41 times
    in 60 s)``. Lines are the same if their key is; at most ``max_keys`` are remembered.
    """

    def __init__(
        self,
        interval: float = 60.0,
        *,
        max_keys: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval
        self._max_keys = max_keys
        self._clock = clock
        self._shown: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable) -> str | None:
        """What to append to the line, possibly nothing; None if it is to be left out."""
        now = self._clock()
        since, repeats = self._shown.get(key, (now - self._interval, 0))
        if now - since < self._interval:
            self._shown[key] = (since, repeats + 1)
            return None
        self._shown[key] = (now, 0)
        self._shown.move_to_end(key)
        if len(self._shown) > self._max_keys:
            self._shown.popitem(last=False)
        return f" (repeated {repeats} times in {now - since:.0f} s)" if repeats else ""
