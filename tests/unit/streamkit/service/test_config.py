"""The reading of configuration files: keys, places, wordings, all problems at once."""

from pathlib import Path

import pytest

from streamkit.errors import ConfigInvalid
from streamkit.service.config import Count, Flag, PeekSection, Seconds, Section, load_file, yaml_key


class Limits(Section):
    max_opens: Count = 5
    names: tuple[str, ...] = ("a",)


class Module(Section):
    enable: Flag = False
    wait: Seconds = 1.5
    tls_ca_file: str = "/ca"
    limits: Limits = Limits()


class Modules(PeekSection):
    our_module: Module = Module()


class File(PeekSection):
    modules: Modules = Modules()
    ours: Limits = Limits()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cloudcore.yaml"


def load(path: Path, text: str) -> File:
    path.write_text(text)
    return load_file(path, File, program="cloudstream", kind="CloudCore")


def problems(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("enable", "enable"),
        ("tunnel_port", "tunnelPort"),
        ("tls_tunnel_ca_file", "tlsTunnelCAFile"),
        ("ca_file", "caFile"),
        ("node_ip", "nodeIP"),
        ("kube_api_config", "kubeAPIConfig"),
    ],
)
def test_keys_are_spelt_as_kubeedge_does(name: str, key: str) -> None:
    assert yaml_key(name) == key


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "modules:\n", "modules:\n  ourModule:\n", "ours: {maxOpens: , names: }\n"],
)
def test_what_is_empty_has_its_defaults(path: Path, text: str) -> None:
    assert load(path, text) == File()


def test_values_are_read_and_the_keys_of_others_ignored(path: Path) -> None:
    text = """
kind: CloudCore
featureGates: {x: true}
modules:
  cloudHub: {tunelPort: 1}
  ourModule: {enable: on, wait: 3, tlsCAFile: /x, limits: {names: [b, 7]}}
ours: {maxOpens: 9}
"""
    file = load(path, text)
    assert file.modules.our_module == Module(
        enable=True, wait=3.0, tls_ca_file="/x", limits=Limits(names=("b", "7"))
    )
    assert file.ours.max_opens == 9


def test_anchors_and_merge_keys_work(path: Path) -> None:
    file = load(path, "base: &b {maxOpens: 7, names: [z]}\nours: {<<: *b, maxOpens: 8}\n")
    assert file.ours == Limits(max_opens=8, names=("z",))


def test_all_problems_come_at_once_in_the_order_of_the_file(path: Path) -> None:
    text = """\
modules:
  ourModule:
    enable: "true"
    wiat: 3
    limits: {maxOpens: 0}
ours:
  names: [a, [b]]
  somethingElse: 1
"""
    assert problems(path, text) == [
        "3:13: modules.ourModule.enable: should be true or false, not 'true'",
        '4:5: unknown key "modules.ourModule.wiat" (did you mean "wait"?)',
        "5:24: modules.ourModule.limits.maxOpens: should be greater than or equal to 1, not 0",
        "7:14: ours.names.1: should be text; put it in quotes",
        '8:3: unknown key "ours.somethingElse"',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ours: 5\n", "1:7: ours: should be a section of its own, with keys below it, not 5"),
        ("ours: [1]\n", "1:1: ours: should be a section of its own, with keys below it"),
        ("ours: {names: a}\n", "1:15: ours.names: should be a list, not 'a'"),
        ("ours: {maxOpens: 1.5}\n", "1:18: ours.maxOpens: should be a whole number, not 1.5"),
        ("ours: {maxOpens: true}\n", "1:18: ours.maxOpens: should be a whole number, not true"),
        (
            "modules: {ourModule: {wait: 30s}}\n",
            "1:29: modules.ourModule.wait: should be a number, not '30s'",
        ),
        (
            "modules: {ourModule: {wait: 0}}\n",
            "1:29: modules.ourModule.wait: should be greater than 0, not 0",
        ),
        (
            "modules: {ourModule: {wait: .inf}}\n",
            "1:29: modules.ourModule.wait: should be a finite number, not inf",
        ),
        ("ours: {max_opens: 5}\n", '1:8: unknown key "ours.max_opens" (did you mean "maxOpens"?)'),
    ],
)
def test_wordings(path: Path, text: str, problem: str) -> None:
    assert problems(path, text) == [problem]


@pytest.mark.parametrize("key", ["Ours", "OURS", "o-urs"])
def test_our_own_key_misspelt_among_foreign_ones_is_not_ignored(path: Path, key: str) -> None:
    assert problems(path, f"{key}: {{}}\n") == [f'1:1: unknown key "{key}" (did you mean "ours"?)']


def test_a_misspelt_module_name_is_not_ignored(path: Path) -> None:
    assert problems(path, "modules:\n  ourmodule: {}\n") == [
        '2:3: unknown key "modules.ourmodule" (did you mean "ourModule"?)'
    ]


def test_a_key_that_stands_twice_is_a_problem_only_where_we_read(path: Path) -> None:
    text = "foreign: {a: 1, a: 2}\nours: {}\nx: 1\nours: {maxOpens: 1}\nx: 2\n"
    assert problems(path, text) == ['4:1: the key "ours" stands here and in line 2']


def test_long_values_are_cut(path: Path) -> None:
    (problem,) = problems(path, f"ours: {{maxOpens: {'x' * 500}}}\n")
    assert len(problem) < 120
    assert problem.endswith("...")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: EdgeCore\nmodules: {x\n", "3:1: not valid YAML: "),
        ("a: *nobody\n", "1:4: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "2:1: not valid YAML: expected a single document"),
        ("[a]: 1\n? [b]\n: 2\n", "1:1: not valid YAML: "),
        ("a: \x00\n", " not valid YAML: "),
        ("- a\n", '1:1: the file should consist of "key: value" lines'),
    ],
)
def test_what_is_not_yaml_takes_one_line(path: Path, text: str, problem: str) -> None:
    (line,) = problems(path, text)
    assert line.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "kind: EdgeCore\nours: {bad: 1}\n",
            (
                "1:7: cloudstream reads the CloudCore file (cloudcore.yaml), "
                "and this one has kind: EdgeCore"
            ),
        ),
        (
            "apiVersion: edgecore.config.kubeedge.io/v1alpha2\n",
            (
                "1:13: cloudstream reads the CloudCore file (cloudcore.yaml), "
                "and this one has apiVersion: edgecore.config.kubeedge.io/v1alpha2"
            ),
        ),
    ],
)
def test_a_file_for_another_component_is_told_by_that_alone(
    path: Path, text: str, problem: str
) -> None:
    assert problems(path, text) == [problem]


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
def test_the_version_in_the_file_is_not_checked(path: Path, version: str) -> None:
    text = f"apiVersion: cloudcore.config.kubeedge.io/{version}\nkind: CloudCore\n"
    assert load(path, text) == File()


def test_a_missing_file_comes_with_a_way_to_write_one(path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file or directory") as caught:
        load_file(path, File, program="cloudstream", kind="CloudCore")
    assert caught.value.hint == f"write a small one with: cloudstream --minconfig > {path}"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        load_file(tmp_path, File, program="cloudstream", kind="CloudCore")
