"""``kubectl attach``, by every kubectl."""

import uuid

from tests.e2e.kubectl import Kubectl


def test_input_of_a_running_process(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("attach", "-i", "cat") as talk:
        for _ in range(2):
            line = f"{uuid.uuid4()}\n".encode()
            talk.send(line)
            talk.wait_for(line)


def test_its_terminal(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("attach", "-it", "shell", terminal=(30, 100)) as talk:
        talk.send(b"\recho $((6 * 7))\r")
        talk.wait_for(b"42\r\n")


def test_its_output_from_now_on(each_kubectl: Kubectl) -> None:
    written = len(each_kubectl.ok("logs", "talker").lines)
    with each_kubectl.talk("attach", "talker") as talk:
        lines = talk.wait_for_lines(2)
    assert all(int(line.removeprefix("line ")) > written for line in lines)


def test_the_size_of_its_terminal(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("attach", "-it", "shell", terminal=(31, 99)) as talk:
        for rows, columns in ((31, 99), (42, 121)):
            talk.resize(rows, columns)
            script = "until stty size | grep -q '%d %d'; do usleep 9999; done; echo is''so"
            talk.send(f"\r{script % (rows, columns)}\r".encode())
            talk.wait_for(b"isso\r\n")
