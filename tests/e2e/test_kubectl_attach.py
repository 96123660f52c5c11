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


def test_its_output_only(each_kubectl: Kubectl) -> None:
    with each_kubectl.talk("attach", "talker") as talk:
        talk.wait_for_lines(2)
        talk.wait_for(b"line ")
