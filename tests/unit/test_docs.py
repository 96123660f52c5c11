"""The documentation names what is there: error codes, files, targets, commands, keys, defaults."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import cloudstream.cli
import cloudstream.config
import edgestream.cli
import edgestream.config
from edgestream.answers import KubeletAnswer
from streamkit.errors import StreamError, error_of
from tests.unit.streamkit.test_errors import family

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = (
    ".ci", "bench", "certs", "cloudstream", "deploy", "docs", "edgestream", "lab", "proto",
    "streamkit", "tests",
)  # fmt: skip
IGNORED = ("certs/lab",)  # made at need, and in no checkout
PROGRAMS = {"cloudstream": cloudstream.cli.main, "edgestream": edgestream.cli.main}
DEFAULTS = {
    "cloudstream": yaml.safe_load(cloudstream.config.DEFAULT_CONFIG),
    "edgestream": yaml.safe_load(edgestream.config.DEFAULT_CONFIG),
}

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, ROOMS))})/[\w./*-]*")
_FILE = re.compile(r"[\w./*-]+\.(?:json|lock|md|proto|py|sh|toml)")
_TEST = re.compile(r"(test_\w+\.py)::([\w:]+)")
_KEY = re.compile(r"(?:cloudstream|edgestream|modules|commonConfig|kubeAPIConfig)(?:\.\w+)+")


@dataclass(frozen=True)
class Page:
    """One page, taken apart: its code (spans and block lines), its table rows, its headings."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def spans(self) -> list[str]:
        lines = [line for line in self.text.splitlines() if not line.startswith("    ")]
        return re.findall(r"`([^`]+)`", "\n".join(lines))

    @property
    def code(self) -> list[str]:
        blocks = [line for line in self.text.splitlines() if line.startswith("    ")]
        return [line.strip() for line in (*self.spans, *blocks)]

    @property
    def rows(self) -> list[list[str]]:
        lines = [line for line in self.text.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]

    @property
    def anchors(self) -> set[str]:
        titles = re.findall(r"^#+ (.+)$", self.text, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


PAGES = [
    Page(path)
    for path in sorted((*PROJECT.glob("*.md"), *PROJECT.glob("*/*.md")))
    if not path.parent.name.startswith(".")
]
ERRORS = Page(PROJECT / "docs" / "errors.md")
README = Page(PROJECT / "README.md")
OPERATIONS = Page(PROJECT / "docs" / "operations.md")
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.path.relative_to(PROJECT))
)


def test_every_error_code_has_its_row() -> None:
    kinds: list[type[StreamError]] = [*family(StreamError), KubeletAnswer]
    rows = {row[0]: row[1:] for row in ERRORS.rows if row[0].startswith("KS")}
    assert rows.keys() == {kind.code for kind in kinds}
    for kind in kinds:
        name, status, meaning, remedy = rows[kind.code]
        own_status = "its own" if kind is KubeletAnswer else str(kind.http_status or "–")
        assert (name, status) == (kind.__name__, own_status), kind.code
        assert meaning
        assert kind.default_hint in remedy
        assert remedy


def test_error_codes_are_listed_in_order() -> None:
    codes = [row[0] for row in ERRORS.rows if row[0].startswith("KS")]
    assert codes == sorted(codes)


@each_page
def test_error_codes_that_a_page_names_exist(page: Page) -> None:
    for code in re.findall(r"KS\d{4}", page.text):
        assert code == KubeletAnswer.code or error_of(code, "").code == code


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    for link in _LINK.findall(page.text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), link
        if anchor:
            assert anchor in Page(target).anchors, link


@each_page
def test_paths_that_a_page_names_exist(page: Page) -> None:
    for path in (path for line in page.code for path in _PATH.findall(line)):
        if not path.startswith(IGNORED):
            assert list(PROJECT.glob(path.rstrip("/."))), path


@each_page
def test_files_that_a_page_names_exist(page: Page) -> None:
    for name in page.spans:
        if _FILE.fullmatch(name):
            assert any(_files_named(name)), name


def _files_named(name: str) -> Iterator[Path]:
    yield from PROJECT.glob(name)
    for room in ROOMS:
        yield from (PROJECT / room).glob(f"**/{name}")


@each_page
def test_tests_that_a_page_names_exist(page: Page) -> None:
    for name, place in _TEST.findall(page.text):
        function = place.rpartition("::")[2]
        found = (path.read_text() for path in PROJECT.glob(f"tests/**/{name}"))
        assert any(f"def {function}(" in text for text in found), f"{name}::{place}"


def test_every_fact_about_kubelets_is_shown_by_a_test() -> None:
    rows = [row for row in Page(PROJECT / "docs" / "kubelet.md").rows if row[0] != "what holds"]
    facts = [row for row in rows if set(row[0]) != {"-"}]
    assert facts
    for fact, tests in facts:
        assert _TEST.search(tests), fact


@each_page
def test_make_targets_that_a_page_names_exist(page: Page) -> None:
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for line in page.code:
        if found := re.match(r"make ([a-z-]+)", line):
            assert found[1] in targets, line


@each_page
def test_commands_that_a_page_names_exist(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    for line in page.code:
        program, *words = re.sub(r"[\[\]|]", " ", line.partition("#")[0]).split() or [""]
        if program not in PROGRAMS or not words:
            continue
        verbs = []
        while words and words[0].isalpha() and words[0].islower():
            verbs.append(words.pop(0))
        with pytest.raises(SystemExit) as done:
            PROGRAMS[program]([*verbs, "--help"])
        assert done.value.code == 0, line
        known = re.findall(r"(?<![\w-])--?[a-z-]+", capsys.readouterr().out)
        assert [word for word in words if word.startswith("-") and word not in known] == [], line


@each_page
def test_configuration_keys_that_a_page_names_exist(page: Page) -> None:
    for span in page.spans:
        if _KEY.fullmatch(span):
            assert any(_has_key(defaults, span) for defaults in DEFAULTS.values()), span


def _has_key(values: Any, dotted: str) -> bool:
    for name in dotted.split("."):
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


@pytest.mark.parametrize("program", DEFAULTS)
def test_the_table_of_keys_is_complete_and_has_the_defaults(program: str) -> None:
    begin = f"under `{program}:`"
    section = README.text.partition(begin)[2].strip().partition("\n\n")[0]
    told = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+?) \|", section, re.MULTILINE))
    values = dict(_flat(DEFAULTS[program][program]))
    assert told.keys() == values.keys()
    for key, value in values.items():
        if not isinstance(value, list):
            shown = '""' if value == "" else yaml.safe_dump(value).partition("\n")[0]
            assert told[key] == f"`{shown}`", key


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_deadlines_are_told_as_they_are() -> None:
    values: dict[str, Any] = {}
    for defaults in DEFAULTS.values():
        values |= dict(_flat(defaults))
    told = 0
    for row in OPERATIONS.rows:
        key = row[-1].strip("`")
        if key in values and (seconds := re.match(r"[\d.]+", row[1])):
            assert float(seconds[0]) == values[key], key
            told += 1
    assert told
