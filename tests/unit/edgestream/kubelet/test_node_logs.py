import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.answers import UNSNIFFED_TEXT
from edgestream.kubelet.cri_backend import CriBackend, NodeFacts
from edgestream.kubelet.serve import answer
from streamkit.errors import IncompleteAnswer
from streamkit.wire.exchange import Headers, RequestHead, header_values
from tests.support.exchange import MemoryExchange
from tests.unit.edgestream.kubelet.pages import DEADLINE, Pages

TEXT = b"".join(b"line %d\n" % number for number in range(20_000))
MODIFIED = 1_714_557_600
HTTP_DATE = "Wed, 01 May 2024 10:00:00 GMT"
PAGE_BEGIN = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of logs beside something that is none of anybody's business."""
    logs = tmp_path / "log"
    (logs / "pods" / "web").mkdir(parents=True)
    (logs / "syslog").write_bytes(TEXT)
    (logs / "empty").touch()
    (logs / "pods" / "web" / "0.log").write_bytes(b"hello\n")
    (logs / "current").symlink_to("pods/web/0.log")
    (logs / "absolute").symlink_to(logs / "pods")
    (tmp_path / "secret").write_bytes(b"secret\n")
    (tmp_path / "log2").mkdir()
    (tmp_path / "log2" / "secret").write_bytes(b"secret\n")
    os.utime(logs / "syslog", (MODIFIED, MODIFIED + 0.5))
    return logs


@pytest.fixture
def facts(directory: Path) -> NodeFacts:
    return NodeFacts(log_directory=directory)


@pytest.fixture
async def backend(facts: NodeFacts, tmp_path: Path) -> AsyncIterator[CriBackend]:
    backend = CriBackend(
        str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE, node=facts
    )
    yield backend
    await backend.close()


@pytest.fixture
def pages(backend: CriBackend) -> Pages:
    return Pages(backend)


async def test_a_file(pages: Pages) -> None:
    head, body = await pages.ask("/logs/syslog")
    assert (head.status, body) == (200, TEXT)
    assert dict(head.headers) == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(TEXT)),
        "Last-Modified": HTTP_DATE,
        "Accept-Ranges": "bytes",
    }
    assert await pages.get("/logs/pods/web/0.log") == b"hello\n"
    assert await pages.get("/logs/empty") == b""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "text/plain; charset=utf-8"),
        (b"\x1b[31mred\x1b[0m \xff\xfe \t\r\n", "text/plain; charset=utf-8"),
        (b"<html><script>", "text/plain; charset=utf-8"),
        (b"\x1f\x8b\x08\x00", "application/x-gzip"),
        (b"LPKSHHRH\x00\x00", "application/octet-stream"),
    ],
)
async def test_content_types(directory: Path, pages: Pages, content: bytes, kind: str) -> None:
    (directory / "some.html").write_bytes(content)
    head, body = await pages.ask("/logs/some.html")
    assert (header_values(head.headers, "content-type"), body) == ([kind], content)


async def test_a_directory(directory: Path, pages: Pages) -> None:
    (directory / "a b&c").touch()
    (directory / "a:b").touch()
    head, body = await pages.ask("/logs/")
    assert header_values(head.headers, "content-type") == ["text/html; charset=utf-8"]
    assert body.decode() == (
        f"{PAGE_BEGIN}"
        '<a href="a%20b&amp;c">a b&amp;c</a>\n'
        '<a href="./a:b">a:b</a>\n'
        '<a href="absolute">absolute</a>\n'
        '<a href="current">current</a>\n'
        '<a href="empty">empty</a>\n'
        '<a href="pods/">pods/</a>\n'
        '<a href="syslog">syslog</a>\n'
        "</pre>\n"
    )
    assert b'<a href="0.log">0.log</a>' in await pages.get("/logs/pods/web/")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/logs", "/logs/"),
        ("/logs/pods?x=1", "/logs/pods/?x=1"),
        ("/logs/pods/web/0.log/", "/logs/pods/web/0.log"),
        ("/logs/pods//web", "/logs/pods/web"),
        ("/logs/absolute", "/logs/absolute/"),
    ],
)
async def test_a_slash_tells_directories_from_files(
    pages: Pages, target: str, location: str
) -> None:
    head, _ = await pages.ask(target)
    assert (head.status, header_values(head.headers, "location")) == (301, [location])


# -- no way out --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/logs/../secret",
        "/logs/%2e%2e/secret",
        "/logs/..%2fsecret",
        "/logs/pods/..%2f..%2fsecret",
        "/logs/%2fetc%2fpasswd",
        "/logs/.%2e/secret",
        "/logs//etc/passwd",
    ],
)
async def test_unclean_paths_are_moved_before_anything_is_opened(pages: Pages, target: str) -> None:
    head, body = await pages.ask(target)
    assert head.status == 301
    assert b"secret\n" not in body
    (location,) = header_values(head.headers, "location")
    assert (await pages.ask(location))[0].status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/logs/%252e%252e/secret",
        "/logs/..%5csecret",
        "/logs/.../secret",
        "/logs/nope",
        "/logs/syslog/below",
        "/logs/a%00b",
        "/logs/%ff",
        "/logs/" + "x" * 300,
    ],
)
async def test_what_is_not_there(pages: Pages, target: str) -> None:
    head, body = await pages.ask(target)
    expected = (404, b"404 page not found\n") if len(target) < 300 else (500, b"500 Internal")
    assert head.status == expected[0]
    assert body.startswith(expected[1])
    assert header_values(head.headers, "x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("out", "../secret"),
        ("out", "/etc/passwd"),
        ("out", "/"),
        ("out", ".."),
        ("out", "../log2"),
        ("out", "../log2/secret"),
        ("pods/out", "../../secret"),
    ],
)
@pytest.mark.parametrize("below", ["", "/", "/secret"])
async def test_links_that_lead_out_lead_nowhere(
    directory: Path, pages: Pages, link: str, to: str, below: str
) -> None:
    (directory / link).symlink_to(to)
    head, body = await pages.ask(f"/logs/{link}{below}")
    assert (head.status, body) == (404, b"404 page not found\n")


async def test_links_that_stay_inside_are_followed(
    directory: Path, pages: Pages, tmp_path: Path
) -> None:
    assert await pages.get("/logs/current") == b"hello\n"
    assert await pages.get("/logs/absolute/web/0.log") == b"hello\n"
    (directory / "loop").symlink_to("loop")
    assert (await pages.ask("/logs/loop"))[0].status == 500


async def test_the_directory_itself_may_be_a_link(
    directory: Path, facts: NodeFacts, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(directory)
    backend = CriBackend(
        str(tmp_path / "none"),
        call_deadline=DEADLINE,
        dial_deadline=DEADLINE,
        node=replace(facts, log_directory=tmp_path / "link"),
    )
    assert await Pages(backend).get("/logs/empty") == b""
    await backend.close()


async def test_only_files_and_directories_are_opened(directory: Path, pages: Pages) -> None:
    os.mkfifo(directory / "pipe")
    assert (await pages.ask("/logs/pipe"))[0].status == 404


async def test_nothing_stays_open(pages: Pages) -> None:
    await pages.get("/logs/syslog")
    before = len(os.listdir("/proc/self/fd"))
    for target in ("/logs/syslog", "/logs/", "/logs/nope", "/logs/pods", "/logs/syslog/"):
        await pages.ask(target)
    assert len(os.listdir("/proc/self/fd")) == before


# -- parts, and what has not changed -------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100000-", 100_000, len(TEXT)),
        ("bytes=-5", len(TEXT) - 5, len(TEXT)),
        ("bytes=-99999999", 0, len(TEXT)),
        ("bytes=5-99999999", 5, len(TEXT)),
        ("bytes = 1 - 2", 1, 3),
    ],
)
async def test_a_part_of_a_file(pages: Pages, wanted: str, start: int, stop: int) -> None:
    head, body = await pages.ask("/logs/syslog", headers=(("Range", wanted),))
    assert (head.status, body) == (206, TEXT[start:stop])
    place = f"bytes {start}-{stop - 1}/{len(TEXT)}"
    assert header_values(head.headers, "content-range") == [place]


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        ("bytes=99999999-", b"invalid range: failed to overlap\n"),
        ("bytes=-0", b"invalid range: failed to overlap\n"),
        ("bytes=5-3", b"invalid range\n"),
        ("bytes=a-b", b"invalid range\n"),
        ("bytes=-", b"invalid range\n"),
        ("bytes=7", b"invalid range\n"),
        ("bytes=--7", b"invalid range\n"),
        ("lines=1-2", b"invalid range\n"),
    ],
)
async def test_a_part_that_there_is_not(pages: Pages, wanted: str, body: bytes) -> None:
    head, text = await pages.ask("/logs/syslog", headers=(("Range", wanted),))
    assert (head.status, text) == (416, body)
    if b"overlap" in body:
        assert header_values(head.headers, "content-range") == [f"bytes */{len(TEXT)}"]


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/logs/syslog", (("Range", "bytes=0-1,5-6"),)),
        ("/logs/syslog", (("Range", "bytes=0-1"), ("If-Range", '"a tag"'))),
        ("/logs/syslog", (("Range", "bytes=0-1"), ("If-Range", "Wed, 01 May 2024 09:59:59 GMT"))),
        ("/logs/syslog", (("If-Modified-Since", "Wed, 01 May 2024 09:59:59 GMT"),)),
        ("/logs/syslog", (("If-Modified-Since", "yesterday"),)),
        ("/logs/empty", (("Range", "bytes=0-1"),)),
    ],
)
async def test_all_of_it_for_want_of_a_good_reason(
    pages: Pages, target: str, headers: Headers
) -> None:
    head, body = await pages.ask(target, headers=headers)
    assert (head.status, body) == (200, TEXT if "syslog" in target else b"")


async def test_a_part_of_what_has_not_changed(pages: Pages) -> None:
    headers = (("Range", "bytes=0-1"), ("If-Range", HTTP_DATE))
    assert (await pages.ask("/logs/syslog", headers=headers))[1] == TEXT[:2]


async def test_what_has_not_changed_is_not_sent(pages: Pages, directory: Path) -> None:
    os.utime(directory, (MODIFIED, MODIFIED))
    for target in ("/logs/syslog", "/logs/"):
        head, body = await pages.ask(target, headers=(("If-Modified-Since", HTTP_DATE),))
        assert (head.status, body) == (304, b"")
        assert head.headers == (("Last-Modified", HTTP_DATE),)


async def test_a_file_that_is_cut_short_is_not_passed_off_as_whole(
    directory: Path, backend: CriBackend
) -> None:
    exchange = MemoryExchange(RequestHead("GET", "/logs/syslog"), room=1)
    async with asyncio.timeout(DEADLINE):
        serving = asyncio.create_task(answer(backend, exchange))
        assert (await exchange.head()).status == 200
        (directory / "syslog").write_bytes(b"")
        receiving = asyncio.create_task(exchange.receive_all())
        with pytest.raises(IncompleteAnswer):
            await serving
        receiving.cancel()
        await asyncio.wait([receiving])


# -- off by default ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("target", ["/logs/", "/logs/syslog"])
async def test_it_is_off_unless_a_directory_is_named(
    tmp_path: Path, method: str, target: str
) -> None:
    backend = CriBackend(str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE)
    head, body = await Pages(backend).ask(target, method)
    await backend.close()
    assert head.status == 405
    assert head.headers[:2] == UNSNIFFED_TEXT
    assert body == (b"" if method == "HEAD" else b"logs endpoint is disabled.\n")


async def test_its_slash_belongs_to_it_even_then(tmp_path: Path) -> None:
    backend = CriBackend(str(tmp_path / "none"), call_deadline=DEADLINE, dial_deadline=DEADLINE)
    for method in ("GET", "POST"):
        head, _ = await Pages(backend).ask("/logs", method)
        assert (head.status, header_values(head.headers, "location")) == (301, ["/logs/"])
    await backend.close()


async def test_only_get(pages: Pages) -> None:
    head, _ = await pages.ask("/logs/syslog", "POST")
    assert (head.status, header_values(head.headers, "allow")) == (405, ["GET"])
