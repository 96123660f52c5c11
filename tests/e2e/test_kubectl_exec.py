"""``kubectl exec``, by every kubectl."""

import pytest

from tests.e2e.kubectl import Kubectl

SHOW_SIZE = """
while :; do
    now=$(stty size)
    [ "$now" = "$last" ] || echo "it is $now"
    last=$now
    sleep 0.05
done
"""


def test_without_input(each_kubectl: Kubectl) -> None:
    done = each_kubectl.ok("exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; cat")
    assert (done.out, done.err) == (b"out\n", "err\n")


def test_arguments_arrive_as_they_are(each_kubectl: Kubectl) -> None:
    words = ["a b", "", "é&=+;%", "new\nline", "'\"$HOME"]
    done = each_kubectl.ok("exec", "shell", "--", "printf", "[%s]", *words)
    assert done.out.decode() == "".join(f"[{word}]" for word in words)


def test_with_input(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("exec", "-i", "shell", "--", "cat") as talk:
        for line in (b"one\n", b"two\n"):
            talk.send(line)
            talk.wait_for(line)
        talk.end_input()
        done = talk.finish()
    assert (done.code, done.out, done.err) == (0, b"one\ntwo\n", "")


def test_every_byte_passes_both_ways(each_kubectl: Kubectl) -> None:
    payload = bytes(range(256)) * 4096
    done = each_kubectl.ok("exec", "-i", "shell", "--", "cat", stdin=payload)
    assert done.out == payload


@pytest.mark.parametrize("code", [0, 3, 137, 255])
def test_exit_codes(each_kubectl: Kubectl, code: int) -> None:
    done = each_kubectl("exec", "shell", "--", "sh", "-c", f"echo done; exit {code}")
    assert (done.code, done.out) == (code, b"done\n")
    assert done.err == (f"command terminated with exit code {code}\n" if code else "")


def test_a_command_that_a_signal_ends(each_kubectl: Kubectl) -> None:
    assert each_kubectl("exec", "shell", "--", "sh", "-c", "kill -9 $$").code == 137


def test_a_command_that_does_not_exist(each_kubectl: Kubectl) -> None:
    done = each_kubectl("exec", "shell", "--", "no-such-command")
    assert done.code != 0
    assert "no-such-command" in done.err


def test_a_terminal(each_kubectl: Kubectl) -> None:
    command = ("exec", "-it", "shell", "--", "sh")
    with each_kubectl.talk(*command, terminal=(33, 101)) as talk:
        talk.wait_for(b"# ")
        talk.send(b"echo $((6 * 7)) > /dev/tty; tty > /dev/null && echo a ter''minal\r")
        talk.wait_for(b"42\r\n")
        talk.wait_for(b"a terminal\r\n")
        talk.send(b"exit 5\r")
        assert talk.finish().code == 5


def test_a_terminal_is_resized_and_takes_ctrl_c(each_kubectl: Kubectl) -> None:
    command = ("exec", "-it", "shell", "--", "sh", "-c", SHOW_SIZE)
    with each_kubectl.talk(*command, terminal=(33, 101)) as talk:
        talk.wait_for(b"it is 33 101\r\n")
        talk.resize(40, 120)
        talk.wait_for(b"it is 40 120\r\n")
        talk.send(b"\x03")
        assert talk.finish().code == 130
