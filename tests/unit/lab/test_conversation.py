"""Talking to programs, on pipes and on a terminal."""

import os
import signal

import pytest

from lab.conversation import Conversation
from lab.programs import LabError

DEADLINE = 10.0
ENVIRONMENT = {"PATH": os.environ["PATH"], "PS1": "ready> "}


def test_on_pipes_the_answer_is_waited_for_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Conversation(["cat"], ENVIRONMENT) as talk:
        talk.type("one\ntwo\n")
        assert talk.wait_for("^t.o$", DEADLINE) == "two"
        talk.interrupt()
        assert talk.finish(DEADLINE) == -signal.SIGINT
    assert capsys.readouterr().out == "one\ntwo\n"


def test_on_a_terminal_size_echo_keys_and_exit_code_are_as_for_a_user() -> None:
    with Conversation(["sh"], ENVIRONMENT, terminal=(33, 101)) as talk:
        talk.wait_for("ready> $", DEADLINE)
        # Ctrl-C goes to whoever is in the foreground: by "asleep" that is no longer the shell.
        talk.type("stty size; sh -c 'echo asleep; exec sleep 1000'\n")
        talk.wait_for("^33 101$", DEADLINE)
        talk.wait_for("^asleep$", DEADLINE)
        talk.type("\x03")
        talk.wait_for("ready> $", DEADLINE)
        talk.type("exit 5\n")
        assert talk.finish(DEADLINE) == 5


def test_what_was_waited_for_once_is_not_found_again() -> None:
    with Conversation(["echo", "once"], ENVIRONMENT) as talk:
        talk.wait_for("once", DEADLINE)
        with pytest.raises(LabError, match="'once' was not seen before it ended"):
            talk.wait_for("once", DEADLINE)


def test_an_answer_that_does_not_come_is_an_error() -> None:
    with (
        Conversation(["cat"], ENVIRONMENT) as talk,
        pytest.raises(LabError, match=r"was not seen within 0\.1 s"),
    ):
        talk.wait_for("anything", 0.1)


def test_messages_to_the_terminal_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    script = r"printf 'a\033[6nb\033['; read -r go; printf 'Jc\n'"
    with Conversation(["sh", "-c", script], ENVIRONMENT) as talk:
        talk.wait_for("^ab$", DEADLINE)
        talk.type("go\n")
        assert talk.finish(DEADLINE) == 0
    assert capsys.readouterr().out == "abc\n"
