"""The command ``certs``: what it prints, how it ends."""

import json
import re
from pathlib import Path

import pytest

from streamkit.service.certs_cli import add_certs
from streamkit.service.cli import run_command, service_parser


def run(*argv: str | Path, issue: bool = True) -> int:
    parser, commands = service_parser(
        "demo", "", config="", serve=lambda args: 0, texts=lambda: ("", "")
    )
    add_certs(commands, issue=issue)
    return run_command(parser, [str(word) for word in argv])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lab"


def test_issue_says_of_each_file_whether_it_is_new(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("certs", "issue", "--dir", directory) == 0
    names = [
        f"{stem}.{end}"
        for stem in ("ca", "stream", "tunnel", "apiserver-client")
        for end in ("crt", "key")
    ]
    assert capsys.readouterr() == ("".join(f"issued  {directory / name}\n" for name in names), "")

    assert run("certs", "issue", "--dir", directory, "--node", "n1", "--node", "n2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(names)] == [f"kept    {directory / name}" for name in names]
    assert lines[len(names) :] == [
        f"issued  {directory / f'edge-{node}.{end}'}"
        for node in ("n1", "n2")
        for end in ("crt", "key")
    ]


def test_issue_passes_names_and_days_on(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--san", "cloud.example", "--san", "192.0.2.1", "--days", "3")
    assert run("certs", "issue", "--dir", directory, *words) == 0
    capsys.readouterr()
    assert run("certs", "show", "-o", "json", directory / "stream.crt") == 0
    (item,) = json.loads(capsys.readouterr().out)["items"]
    assert {"cloud.example", "192.0.2.1"} <= set(item["names"])
    assert 0 < item["residualSeconds"] <= 3 * 86400


def test_a_name_that_can_be_none_is_an_error_and_nothing_is_made(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("certs", "issue", "--dir", directory, "--node", "../x") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith('demo: error KS6002: "../x" can\'t be the node name')
    assert not directory.exists()


@pytest.mark.parametrize("days", ["0", "-1", "many", "99999"])
def test_days_have_to_make_sense(
    directory: Path, capsys: pytest.CaptureFixture[str], days: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run("certs", "issue", "--dir", directory, f"--days={days}")
    assert caught.value.code == 2
    assert "should be from 1 to 36500" in capsys.readouterr().err


def test_show_makes_a_table_of_a_directory(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("certs", "issue", "--dir", directory, "--node", "n1")
    (directory / "edge-n1.key").write_bytes((directory / "ca.key").read_bytes())
    (directory / "stream.key").unlink()
    capsys.readouterr()
    assert run("certs", "show", directory) == 0
    header, *rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert header == [
        *("FILE", "ROLE", "SUBJECT", "NAMES", "EXPIRES", "RESIDUAL", "ISSUER", "KEY"),
    ]
    files = ["apiserver-client", "ca", "edge-n1", "stream", "tunnel"]
    assert [row[0] for row in rows] == [str(directory / f"{name}.crt") for name in files]
    assert [row[1] for row in rows] == ["client", "ca", "edge node n1", "server", "server"]
    assert rows[2][2:4] == ["CN=system:node:n1,O=system:nodes", "-"]
    assert rows[3][3] == "localhost,127.0.0.1,::1"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[4]) for row in rows)
    assert [row[5] for row in rows] == ["364d", "3649d", "364d", "364d", "364d"]
    assert {row[6] for row in rows} == {"CN=cloudstream-ca,O=cloudstream"}
    assert [row[7] for row in rows] == ["matches", "matches", "MISMATCH", "-", "matches"]


def test_show_as_json_has_every_block_of_a_file(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("certs", "issue", "--dir", directory)
    chain = directory / "tunnel.crt"
    chain.write_bytes(chain.read_bytes() + (directory / "ca.crt").read_bytes())
    capsys.readouterr()
    assert run("certs", "show", "--output=json", chain) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["apiVersion"], document["kind"]) == ("cloudstream/v1", "CertificateList")
    leaf, ca = document["items"]
    assert leaf["file"] == ca["file"] == str(chain)
    assert (leaf["role"], leaf["isCA"], leaf["keyMatch"]) == ("server", False, True)
    assert (ca["role"], ca["isCA"], ca["keyMatch"]) == ("ca", True, None)
    assert leaf["purposes"] == ["serverAuth"]
    assert re.fullmatch("[0-9a-f]{64}", leaf["sha256"])


def test_show_tells_what_has_expired(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from streamkit.pki.issue import issue_all

    issue_all(directory, nodes=["old"], days=0)
    assert run("certs", "show", directory / "edge-old.crt") == 0
    assert "  expired  " in capsys.readouterr().out


def test_one_bad_file_hides_no_other(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("certs", "issue", "--dir", directory)
    (directory / "bad.pem").write_text("hello")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert run("certs", "show", tmp_path / "none", tmp_path / "empty", directory) == 3
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5
    assert captured.err.splitlines() == [
        f"demo: error KS6001: {tmp_path}/none can't be read (No such file or directory)",
        f"demo: error KS6001: {tmp_path}/empty has no .crt and no .pem files",
        (
            f"demo: error KS6002: {directory}/bad.pem holds no PEM certificate "
            "where a certificate is expected"
        ),
    ]


def test_issuing_is_not_offered_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("certs", "issue", issue=False)
    assert caught.value.code == 2
    assert "invalid choice: 'issue'" in capsys.readouterr().err


def test_a_command_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("certs")
    assert caught.value.code == 2
    assert "required: COMMAND" in capsys.readouterr().err
