"""Configuration files: YAML in KubeEdge's own shape, checked as a whole.

A file is described by ``Section`` classes with KubeEdge's key names as aliases (``tunnelPort`` for
``tunnel_port``). Whatever is wrong in it is reported at once: one line each, with file, line and
column, in one ``ConfigInvalid``.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from streamkit.errors import ConfigInvalid
from streamkit.pki.files import TlsFiles as TlsFiles

Flag = Annotated[bool, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Count = Annotated[int, Strict(), Field(ge=1)]
Seconds = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Grace = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
"""Seconds, of which there may be none."""
PathName = Annotated[str, Field(min_length=1)]


def absolute_path(text: str) -> str:
    """The path, or nothing; a relative one raises ValueError."""
    if text and not text.startswith("/"):
        raise ValueError(f'should be an absolute path, such as /var/log, not "{text}"')
    return text


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets. Raises ValueError."""
    host, colon, digits = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    fits = colon and digits.isascii() and digits.isdecimal() and int(digits) <= 65535
    if not fits or not host or (":" in host and not is_bracketed):
        raise ValueError(f'should be host:port, such as 127.0.0.1:10005, not "{text}"')
    return (host[1:-1] if is_bracketed else host), int(digits)


def _listen_address(text: str) -> str:
    if text:
        split_address(text)
    return text


ListenAddress = Annotated[str, AfterValidator(_listen_address)]
"""``host:port``, port 0 for any free one; empty for nowhere."""

_ACRONYMS = {"api": "API", "ca": "CA", "ip": "IP"}

# The wordings of pydantic that say too little, or too much, to the reader of a YAML file.
_WORDS = {
    "bool_type": "should be true or false",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "model_type": "should be a section of its own, with keys below it",
    "string_too_short": "should not be empty",
    "string_type": "should be text; put it in quotes",
    "tuple_type": "should be a list",
}

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # not every build has the C parser


def yaml_key(name: str) -> str:
    """The key as KubeEdge spells it: ``tlsTunnelCAFile`` for the field ``tls_tunnel_ca_file``."""
    first, *rest = name.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Section(BaseModel):
    """A mapping in the file whose keys are all known; a key without a value means its default.

    In code the fields go by their Python names, also to construct one: ``CloudLimits(...)``.
    """

    model_config = ConfigDict(
        alias_generator=yaml_key,
        populate_by_name=True,
        frozen=True,
        coerce_numbers_to_str=True,
    )
    tolerant: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @classmethod
    def sections(cls) -> dict[str, "type[Section] | None"]:
        """Each YAML key with the section that stands under it, or None for a plain value."""
        return {
            field.alias or name: kind
            if isinstance(kind := field.annotation, type) and issubclass(kind, Section)
            else None
            for name, field in cls.model_fields.items()
        }


class PeekSection(Section):
    """A mapping that belongs to KubeEdge: keys that we don't read are none of our business."""

    tolerant: ClassVar[bool] = True


S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True, order=True)
class _Problem:
    line: int
    column: int
    text: str

    @classmethod
    def at(cls, mark: yaml.Mark | None, text: str) -> "_Problem":
        return cls(mark.line + 1, mark.column + 1, text) if mark else cls(0, 0, text)

    def describe(self, path: Path) -> str:
        place = f"{path}:{self.line}:{self.column}" if self.line else str(path)
        return f"{place}: {self.text}"


def load_file(path: Path, model: type[S], *, program: str, kind: str) -> S:
    """Read and check a file that describes a KubeEdge component (``kind``: CloudCore, EdgeCore).

    Raises ConfigInvalid, whose sentence has a line for each problem found.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(
            f"{path}: the configuration file can't be read ({error.strerror})",
            hint=f"write a small one with: {program} --minconfig > {path}",
        ) from error
    root, duplicates, data = _parse(path, text, model)
    if mixed_up := _other_kind(root, program, kind):
        raise ConfigInvalid(mixed_up.describe(path))
    problems = [*duplicates, *_unknown_keys(root, model)]
    try:
        result = model.model_validate(data)
    except ValidationError as error:
        problems += [_invalid_value(root, detail) for detail in error.errors(include_url=False)]
    else:
        if not problems:
            return result
    raise ConfigInvalid("\n".join(problem.describe(path) for problem in sorted(problems)))


def _parse(
    path: Path, text: bytes, model: type[Section]
) -> tuple[yaml.MappingNode, list[_Problem], Any]:
    """The document as nodes (which know their place) and as data; an empty file has no keys."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return yaml.MappingNode("tag:yaml.org,2002:map", []), [], {}
        if not isinstance(node, yaml.MappingNode):
            problem = _Problem.at(node.start_mark, 'the file should consist of "key: value" lines')
            raise ConfigInvalid(problem.describe(path))
        # Before data is constructed: that resolves merge keys in place, and what a key
        # overrides would look like its duplicate.
        duplicates = list(_duplicate_keys(node, model))
        return node, duplicates, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        problem = _Problem.at(error.problem_mark, f"not valid YAML: {reason}")
        raise ConfigInvalid(problem.describe(path)) from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigInvalid(f"{path}: not valid YAML: {reason}") from error


def _other_kind(root: yaml.MappingNode, program: str, kind: str) -> _Problem | None:
    """What is wrong if the file is meant for another component. KubeEdge checks neither key."""
    for key, wanted in (("kind", kind), ("apiVersion", f"{kind.lower()}.config.kubeedge.io/")):
        for key_node, value in root.value:
            if key_node.value != key or not isinstance(value, yaml.ScalarNode) or not value.value:
                continue
            if value.value == wanted or (key == "apiVersion" and value.value.startswith(wanted)):
                continue
            return _Problem.at(
                value.start_mark,
                f"{program} reads the {kind} file ({kind.lower()}.yaml), "
                f"and this one has {key}: {value.value}",
            )
    return None


def _walk(
    node: yaml.Node, model: type[Section], path: tuple[str, ...] = ()
) -> Iterator[tuple[yaml.MappingNode, type[Section], tuple[str, ...]]]:
    """The mappings that the model describes, from the outside in."""
    if not isinstance(node, yaml.MappingNode):
        return
    yield node, model, path
    sections = model.sections()
    for key_node, value in node.value:
        if isinstance(key_node, yaml.ScalarNode) and (below := sections.get(key_node.value)):
            yield from _walk(value, below, (*path, key_node.value))


def _duplicate_keys(root: yaml.MappingNode, model: type[Section]) -> Iterator[_Problem]:
    for node, section, path in _walk(root, model):
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key not in section.sections():
                continue
            if key in seen:
                text = f'the key "{".".join((*path, key))}" stands here and in line {seen[key]}'
                yield _Problem.at(key_node.start_mark, text)
            seen[key] = key_node.start_mark.line + 1


def _unknown_keys(root: yaml.MappingNode, model: type[Section]) -> Iterator[_Problem]:
    for node, section, path in _walk(root, model):
        known = list(section.sections())
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value in known:
                continue
            nearest = _nearest(key_node.value, known, only_spelling=section.tolerant)
            if section.tolerant and nearest is None:
                continue
            text = f'unknown key "{".".join((*path, key_node.value))}"'
            if nearest:
                text += f' (did you mean "{nearest}"?)'
            yield _Problem.at(key_node.start_mark, text)


def _nearest(key: str, known: Sequence[str], *, only_spelling: bool) -> str | None:
    """The known key that is meant; ``only_spelling`` sees case, ``-`` and ``_`` as the difference.

    A key of ours that is misspelt so in a section of KubeEdge's would else pass as one of theirs.
    """
    folded = {name.lower(): name for name in known}
    wanted = key.replace("-", "").replace("_", "").lower()
    if wanted in folded or only_spelling:
        return folded.get(wanted)
    close = difflib.get_close_matches(wanted, folded, n=1)
    return folded[close[0]] if close else None


def _invalid_value(root: yaml.MappingNode, error: ErrorDetails) -> _Problem:
    dotted = ".".join(str(part) for part in error["loc"])
    text = _WORDS.get(error["type"]) or error["msg"].removeprefix("Input ")
    if error["type"] == "value_error":
        text = text.removeprefix("Value error, ")
    elif isinstance(error["input"], str | int | float) and error["input"] != "":
        text += f", not {_shown(error['input'])}"
    return _Problem.at(_mark(root, error["loc"]), f"{dotted}: {text}")


def _shown(value: str | float) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _mark(root: yaml.Node, loc: tuple[int | str, ...]) -> yaml.Mark | None:
    """Where the value at that path begins; for a section, where its key stands."""
    node, mark = root, None
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            mark = node.start_mark
        elif isinstance(node, yaml.MappingNode):
            for key_node, value in node.value:
                if key_node.value == part:
                    node = value
                    mark = (value if isinstance(value, yaml.ScalarNode) else key_node).start_mark
    return mark
