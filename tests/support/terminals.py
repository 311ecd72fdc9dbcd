"""A stream that calls itself a terminal, and an environment that says nothing about it."""

import io

import pytest


class Terminal(io.StringIO):
    """What is written to it is kept, as a terminal shows it."""

    def isatty(self) -> bool:
        return True


def environment_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the tests were started with say how a terminal is used."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
