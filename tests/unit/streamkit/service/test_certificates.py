"""Certificate files that change while a service runs, and that are about to expire."""

import asyncio
import contextlib
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamkit.errors import CertError
from streamkit.pki.contexts import tunnel_server_context
from streamkit.pki.files import TlsFiles
from streamkit.pki.inspect import inspect_file
from streamkit.pki.issue import issue_all
from streamkit.service import certificates as certificates_module
from streamkit.service.certificates import WARNING_DAYS, Certificates, TlsEnd
from streamkit.service.health import OK, Verdict
from tests.support.wait import until

DAY = 86400.0


class End:
    """An end whose contexts are counted."""

    def __init__(self, directory: Path, stem: str = "tunnel") -> None:
        self.files = TlsFiles(
            directory / "ca.crt", directory / f"{stem}.crt", directory / f"{stem}.key"
        )
        self.used: list[ssl.SSLContext] = []
        self.tls_end = TlsEnd(
            f"{stem} port",
            {stem: self.files.cert, f"{stem}-ca": self.files.ca},
            self.files.key,
            lambda: tunnel_server_context(self.files),
            self.used.append,
        )


@pytest.fixture
def end(tmp_path: Path) -> End:
    issue_all(tmp_path / "pki")
    return End(tmp_path / "pki")


@pytest.fixture
def certificates(end: End) -> Certificates:
    kept = Certificates()
    assert len(kept.keep(end.tls_end)) == 1
    return kept


def renew(end: End, *, days: int = 365) -> None:
    """A new certificate of the same CA, with a key of its own."""
    end.files.key.unlink()
    issue_all(end.files.key.parent, days=days)


def samples(certificates: Certificates) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in certificates.metrics("x")
        for sample in metric.samples
    }


async def test_what_does_not_change_is_not_loaded_again(
    certificates: Certificates, end: End
) -> None:
    assert not certificates.look()
    assert not end.used
    assert await certificates.check() == OK


async def test_a_renewed_certificate_is_loaded_once(certificates: Certificates, end: End) -> None:
    before = samples(certificates)["x_certificate_expiry_timestamp_seconds", "tunnel"]
    renew(end, days=400)
    assert certificates.look()
    assert not certificates.look()
    assert len(end.used) == 1
    (found,) = inspect_file(end.files.cert)
    after = samples(certificates)
    assert after["x_certificate_expiry_timestamp_seconds", "tunnel"] == found.not_after.timestamp()
    assert found.not_after.timestamp() > before
    assert after["x_certificate_loads_total", "loaded"] == 1


def test_files_behind_another_link_are_other_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        issue_all(tmp_path / name)
    (tmp_path / "data").symlink_to("one")
    end = End(tmp_path / "data")
    kept = Certificates()
    kept.keep(end.tls_end)
    # As the kubelet does it with a Secret: the link is replaced, all files at once.
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    assert kept.look()
    assert len(end.used) == 1


async def test_files_that_do_not_fit_change_nothing_until_they_do(
    certificates: Certificates, end: End, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    issue_all(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "tunnel.crt", end.files.cert)
    assert not certificates.look()
    assert not certificates.look()
    assert not end.used
    told = "the new certificates of the tunnel port can't be used: the private key in"
    assert caplog.text.count(told) == 1
    assert caplog.text.count("the old ones stay in use [KS6002]") == 1
    outcome = await certificates.check()
    assert (outcome.verdict, told in outcome.sentence) == (Verdict.PENDING, True)
    shutil.copy(tmp_path / "other" / "tunnel.key", end.files.key)
    assert certificates.look()
    assert await certificates.check() == OK
    assert samples(certificates)["x_certificate_loads_total", "refused"] == 1


def test_a_file_that_is_gone_for_a_moment_changes_nothing(
    certificates: Certificates, end: End
) -> None:
    aside = end.files.ca.rename(end.files.ca.with_suffix(".aside"))
    assert not certificates.look()
    aside.rename(end.files.ca)
    assert certificates.look()


def test_all_that_is_wrong_with_all_ends_is_told_at_once(tmp_path: Path) -> None:
    issue_all(tmp_path)
    broken = End(tmp_path, "stream"), End(tmp_path, "tunnel")
    broken[0].files.cert.unlink()
    shutil.copy(broken[0].files.key, broken[1].files.key)
    with pytest.raises(CertError) as raised:
        Certificates().keep(*(each.tls_end for each in broken))
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{broken[0].files.cert} can't be read")
    assert second.startswith(f"the private key in {broken[1].files.key} is not that of")


@pytest.mark.parametrize(
    ("role", "days", "left", "verdict", "text"),
    [
        ("tunnel", 365, WARNING_DAYS + 0.5, Verdict.OK, ""),
        ("tunnel", 365, 6.5, Verdict.PENDING, "expires in 6 days, on "),
        ("tunnel", 365, 0.5, Verdict.PENDING, "expires in 0 days, on "),
        ("tunnel", 365, -0.5, Verdict.FAILED, "has expired, on "),
        ("tunnel", 8, 2.5, Verdict.OK, ""),
        ("tunnel", 8, 1.5, Verdict.PENDING, "expires in 1 days, on "),
        ("tunnel-ca", 4000, 6.5, Verdict.PENDING, "expires in 6 days, on "),
        ("tunnel-ca", 4000, -0.5, Verdict.FAILED, "has expired, on "),
    ],
)
async def test_what_is_about_to_expire_is_told(
    end: End,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    days: int,
    left: float,
    verdict: Verdict,
    text: str,
) -> None:
    renew(end, days=days)  # but not beyond its CA's end
    certificates = Certificates()
    certificates.keep(end.tls_end)
    ends = samples(certificates)["x_certificate_expiry_timestamp_seconds", role]
    monkeypatch.setattr("time.time", lambda: ends - left * DAY)
    outcome = await certificates.check()
    kind = "CA" if role.endswith("ca") else "certificate"
    told = f"the {kind} {role} ({end.tls_end.roles[role]}) {text}"
    assert outcome.verdict == verdict
    assert (told in outcome.sentence) is bool(text)


@contextlib.asynccontextmanager
async def running(certificates: Certificates, asked: asyncio.Event) -> AsyncIterator[None]:
    task = asyncio.create_task(certificates.run(asked))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_it_is_told_each_day_and_for_each_new_certificate(
    end: End, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renew(end, days=1)
    certificates = Certificates()
    certificates.keep(end.tls_end)
    (found,) = inspect_file(end.files.cert)
    now = found.not_after.timestamp() - DAY / 10
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr(certificates_module, "_LOOK", 0.01)

    def told() -> int:
        return caplog.text.count("the certificate tunnel (")

    async with running(certificates, asyncio.Event()):
        await until(lambda: told() == 1)
        renew(end, days=1)
        await until(lambda: len(end.used) == 1)
    monkeypatch.setattr(certificates_module, "_TELLING", 0.05)
    caplog.clear()
    async with running(certificates, asyncio.Event()):
        await until(lambda: told() >= 3)


async def test_who_asks_need_not_wait(
    certificates: Certificates, end: End, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = asyncio.Event()
    async with running(certificates, asked):
        renew(end)
        asked.set()
        await until(lambda: len(end.used) == 1, deadline=5)
    assert "the tunnel port has its new certificates" in caplog.text
