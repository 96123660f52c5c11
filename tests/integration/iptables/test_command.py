"""``cloudstream iptables`` as a process, in a network where an API server stands in."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kube_server import TOKEN, prepare, write_kubeconfig
from tests.support.netns import KUBE_PROXY, Namespace, namespace

PORT = 6443
URL = f"https://127.0.0.1:{PORT}"
EDGE_ROLE = {"node-role.kubernetes.io/edge": ""}
DEADLINE = 60.0
CLOUDSTREAM = str(Path(sys.executable).with_name("cloudstream"))


@pytest.fixture
def place() -> Iterator[Namespace]:
    """A host: a default route, and kube-proxy's rules."""
    with namespace() as found:
        found.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "gw")
        found.run("ip", "address", "add", "10.2.0.12/24", "dev", "eth0")
        for link in ("eth0", "gw"):
            found.run("ip", "link", "set", link, "up")
        found.run("ip", "route", "add", "default", "via", "10.2.0.1")
        found.restore("nft", KUBE_PROXY)
        yield found


@contextlib.asynccontextmanager
async def api_server(place: Namespace, directory: Path) -> AsyncIterator[str]:
    """The stand-in, in that network; gives the kubeconfig's path."""
    nodes = [{"name": "edge-1", "address": "10.2.4.15", "labels": EDGE_ROLE}]
    config = directory / "apiserver.json"
    config.write_text(json.dumps(prepare(directory, listen=f"127.0.0.1:{PORT}", nodes=nodes)))
    process = await place.start(sys.executable, "-m", "lab.apiserver", "--config", str(config))
    try:
        assert process.stdout
        async with asyncio.timeout(DEADLINE):
            assert b"stand-in on" in await process.stdout.readline()
        yield str(write_kubeconfig(directory, URL))
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill it, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def put_record(place: Namespace, by_address: dict[str, int]) -> None:
    """Write the record, for the first time or again."""
    text = json.dumps({"ipTunnelPort": by_address, "port": {}})
    annotations = {"tunnelportrecord.kubeedge.io": text}
    config_map = json.dumps({"metadata": {"name": "tunnelport", "annotations": annotations}})
    maps = "/api/v1/namespaces/kubeedge/configmaps"
    for method, path in (("POST", maps), ("PUT", f"{maps}/tunnelport")):
        place.run(
            "curl",
            *("--silent", "--show-error", "--insecure", "--request", method, URL + path),
            *("--header", f"Authorization: Bearer {TOKEN}", "--data", config_map),
        )


async def run(place: Namespace, *arguments: str) -> tuple[int | None, str, str]:
    """Run the command to its end: exit code, standard output, error."""
    process = await place.start(CLOUDSTREAM, "iptables", *arguments)
    try:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
    finally:
        await end(process)
    return process.returncode, out.decode(), err.decode()


async def rules_with(place: Namespace, *wanted: str, without: str = "\n\n") -> str:
    """Wait for rules that contain these texts."""
    async with asyncio.timeout(DEADLINE):
        while True:
            rules = await asyncio.to_thread(place.rules, "nft")
            if all(text in rules for text in wanted) and without not in rules:
                return rules
            await asyncio.sleep(0.05)


async def test_once_then_a_dry_run_then_cleanup(place: Namespace, tmp_path: Path) -> None:
    before = place.rules("nft")
    async with api_server(place, tmp_path) as kubeconfig:
        put_record(place, {"10.2.0.12": 10351, "10.2.4.15": 10350})
        code, out, err = await run(place, "--kubeconfig", kubeconfig, "--dry-run")
        assert (code, place.rules("nft")) == (1, before)
        assert "# iptables-nft: it holds the KUBE-* chains\n" in out
        rule = "-d 10.2.4.15/32 -p tcp -m tcp --dport 10351 -j DNAT --to-destination "
        assert f"-A TUNNEL-PORT {rule}10.2.0.12:10003\n" in out
        assert "the record's keys 10.2.4.15 are edge nodes" in err
        options = ("--once", "--forwardport", "20003", "--mode", "internal")
        code, out, err = await run(place, "--kubeconfig", kubeconfig, *options)
        assert (code, out) == (0, "")
        assert f"{rule}10.2.0.12:20003" in place.rules("nft")
        command = ("--kubeconfig", kubeconfig, "--dry-run", "--forward-port")
        code, out, _ = await run(place, *command, "20003")
        assert (code, out.count(": nothing\n")) == (0, 2)
        code, out, _ = await run(place, *command, "10003")
        assert code == 1
        assert TOKEN not in err
    code, out, err = await run(place, "--cleanup")
    assert (code, out) == (0, "removed the chain TUNNEL-PORT\n")
    assert place.rules("nft") == before
    assert await run(place, "--cleanup") == (0, "nothing to remove\n", "")


async def test_the_rules_follow_the_record_and_outlive_everything(
    place: Namespace, tmp_path: Path
) -> None:
    arguments = ("--interval", "0.2")
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(contextlib.AsyncExitStack())
        kubeconfig = await server.enter_async_context(api_server(place, tmp_path))
        command = ("iptables", "--kubeconfig", kubeconfig, *arguments)
        managers = [await place.start(CLOUDSTREAM, *command) for _ in range(2)]
        for process in managers:
            stack.push_async_callback(end, process)
        put_record(place, {"10.2.0.12": 10351})
        await rules_with(place, "--to-destination 10.2.0.12:10003", "-A OUTPUT -m comment")
        put_record(place, {"10.2.0.13": 10352})
        gone = "--to-destination 10.2.0.12:10003"
        await rules_with(place, "--to-destination 10.2.0.13:10003", without=gone)
        await server.aclose()
        place.run("iptables-nft", "-t", "nat", "-F", "OUTPUT")
        place.run("iptables-nft", "-t", "nat", "-F", "TUNNEL-PORT")
        await rules_with(place, "10.2.0.13:10003", '-A OUTPUT -m comment --comment "kubeedge')
        for process in managers:
            await end(process)
        rules = place.rules("nft")
        assert rules.count("-j TUNNEL-PORT") == 2
        assert rules.count("-j DNAT") == 1
        last = await place.start(CLOUDSTREAM, *command)
        stack.push_async_callback(end, last)
        last.terminate()
        async with asyncio.timeout(DEADLINE):
            await last.wait()
        assert place.rules("nft") == rules


async def told(place: Namespace, path: str, *texts: str) -> None:
    """Wait until the manager's admin address tells these."""
    curl = f"curl --silent --write-out '\\n%{{http_code}}' http://127.0.0.1:10007{path}"
    answer = ""
    try:
        async with asyncio.timeout(DEADLINE):
            while not all(text in answer for text in texts):
                answer = await asyncio.to_thread(place.run, "sh", "-c", f"{curl} || true")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the last answer was: {answer}") from None


async def test_health_and_metrics_tell_what_is_pending_and_what_fails(
    place: Namespace, tmp_path: Path
) -> None:
    options = ("--interval", "0.2", "--mode", "internal", "--admin-address", "127.0.0.1:10007")
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(contextlib.AsyncExitStack())
        kubeconfig = await server.enter_async_context(api_server(place, tmp_path))
        command = ("iptables", "--kubeconfig", kubeconfig, *options)
        process = await place.start(CLOUDSTREAM, *command)
        stack.push_async_callback(end, process)
        missing = "there is no ConfigMap kubeedge/tunnelport"
        await told(place, "/readyz", f"[!]rules pending, while serving goes on: {missing}", "\n200")
        put_record(place, {"10.2.0.12": 10351})
        await told(place, "/readyz", "ok\n200")
        outcome = 'cloudstream_iptables_passes_total{outcome="corrected"}'
        pending = 'cloudstream_duty_pending{duty="iptables"}'
        await told(place, "/metrics", f"{outcome} 1.0", f"{pending} 0.0")
        put_record(place, {"10.2.0.13": 10351})
        text = "[-]rules failed: none of the cloud services (10.2.0.13) is on this host"
        await told(place, "/readyz", text, "\n503")
        await told(place, "/metrics", f"{pending} 1.0", 'outcome="failed"')
        put_record(place, {"10.2.0.12": 10351})
        await told(place, "/readyz", "ok\n200")
        await server.aclose()
        await told(place, "/readyz", "[!]kubernetes-api pending", "\n200")


@pytest.mark.parametrize("kill_after", [0.0, 0.6, 0.9, 1.2])
async def test_a_killed_manager_leaves_nothing_half_done(
    place: Namespace, tmp_path: Path, kill_after: float
) -> None:
    before = place.rules("nft")
    async with api_server(place, tmp_path) as kubeconfig:
        put_record(place, {"10.2.0.12": 10351})
        command = ("iptables", "--kubeconfig", kubeconfig)
        process = await place.start(CLOUDSTREAM, *command)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_after):
                await process.wait()
        await end(process)
        rules = place.rules("nft")
        assert rules == before or rules.count("-j TUNNEL-PORT") == 2
        code, _, _ = await run(place, "--kubeconfig", kubeconfig, "--once")
        assert code == 0
        assert place.rules("nft").count("-j TUNNEL-PORT") == 2
        await run(place, "--cleanup")
    assert place.rules("nft") == before


def one_error(code: int | None, err: str) -> str:
    """The only error, which is told in one line, and perhaps a hint."""
    lines = [line for line in err.splitlines() if "error" in line]
    assert code == 3
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


async def test_what_is_not_the_hosts_network_is_refused() -> None:
    with namespace() as pod:
        code, _, err = await run(pod, "--once")
        assert "it has no default route" in one_error(code, err)
        code, _, err = await run(pod, "--once", "--host-ip", "10.2.0.12")
        assert "it has no address 10.2.0.12" in one_error(code, err)
        assert "hint: run the pod with hostNetwork: true" in err


async def test_an_internal_manager_has_to_be_beside_a_cloud_service(
    place: Namespace, tmp_path: Path
) -> None:
    async with api_server(place, tmp_path) as kubeconfig:
        put_record(place, {"10.2.0.13": 10351})
        options = ("--kubeconfig", kubeconfig, "--once", "--mode", "internal")
        code, _, err = await run(place, *options)
        assert "none of the cloud services (10.2.0.13) is on this host" in one_error(code, err)
    assert "TUNNEL-PORT" not in place.rules("nft")


async def test_without_rights_or_an_api_one_line_tells_it(place: Namespace) -> None:
    script = f"{CLOUDSTREAM} iptables --cleanup"
    process = await place.start("capsh", "--drop=cap_net_admin", "--", "-c", script)
    async with asyncio.timeout(DEADLINE):
        _, err = await process.communicate()
    assert "is not permitted to change the rules" in one_error(process.returncode, err.decode())
    code, _, text = await run(place, "--once")
    assert "there is no Kubernetes API to ask" in one_error(code, text)


def usage(*arguments: str) -> Any:
    """The command line as it is read, without running anything."""
    from cloudstream.iptables.command import add_iptables
    from streamkit.service.cli import Parser

    parser = Parser(prog="cloudstream")
    add_iptables(parser.add_subparsers())
    return parser.parse_args(["iptables", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--forward-port", "0"),
        ("--forward-port", "x"),
        ("--interval", "0"),
        ("--interval", "inf"),
        ("--edge-ips", "edge"),
        ("--admin-address", "10007"),
        ("--mode", "other"),
        ("--once", "--cleanup"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as raised:
        usage(*arguments)
    assert raised.value.code == 2


def test_kubeedges_flags_are_understood() -> None:
    args = usage("--kubeconfig", "/x", "--forwardport", "10013")
    assert (args.kubeconfig, args.forward_port, args.mode) == ("/x", 10013, "external")
