"""A command that exits while its input still arrives."""

from itertools import count

from tests.e2e.kubectl import Kubectl

LINES = "".join(f"{number}\n" for number in range(1, 200_001)).encode()
SCRIPT = "head -c 1000 > /dev/null; seq 1 200000; exit 7"


def test_a_little_that_nobody_reads(each_kubectl: Kubectl) -> None:
    done = each_kubectl("exec", "-i", "cat", "--", "sh", "-c", SCRIPT, stdin=bytes(50_000))
    assert (done.code, done.out) == (7, LINES)


def test_input_that_never_ends(kubectl: Kubectl) -> None:
    """The runtime holds the rest and tells no exit code; the user is told that, and all output."""
    with kubectl.talk("exec", "-i", "cat", "--", "sh", "-c", SCRIPT) as talk:
        try:
            for _ in count():
                talk.send(bytes(65536))
        except BrokenPipeError:
            done = talk.finish()
    assert (done.code, done.out) == (1, LINES)
    assert "does not tell how the command ended" in done.err
