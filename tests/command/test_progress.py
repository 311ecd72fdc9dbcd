"""How far a run has come, as a terminal shows it."""

import io
import re
from collections.abc import Callable

import pytest
from ekvdump.cli.progress import TerminalProgress
from rich.console import Console
from terminals import Terminal, environment_of_a_terminal

ERASED = re.compile(r"\r(?:\x1b\[1A)?\x1b\[2K|\x1b\[\?25[lh]|\n")
"""What ends a line that a terminal shows for a while."""
BAR = re.compile("[━╺╸]+")


class Clock:
    """Goes on by a second for each step of a run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_progress(terminal: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TerminalProgress]:
    environment_of_a_terminal(monkeypatch)

    def make(*, colours: bool = False) -> TerminalProgress:
        return TerminalProgress(
            Console(file=terminal, width=100, get_time=clock, color_system="standard" if colours else None)
        )

    return make


def run(progress: TerminalProgress, clock: Clock, stage: str, *steps: tuple[int, int]) -> None:
    for done, in_all in steps:
        progress(stage, done, in_all)
        clock.seconds += 1


def last_line(terminal: Terminal) -> list[str]:
    """The words of the last line that was shown, a bar as what it is made of."""
    lines = [line for line in ERASED.split(terminal.getvalue()) if line.strip()]
    return BAR.sub("━", lines[-1]).split()


@pytest.mark.parametrize(
    ("stage", "total", "shown"),
    [
        ("bytes", 400_000, ["reading", "━", "300.0/400.0", "kB", "100.0", "kB/s", "0:00:01"]),
        ("keys", 8000, ["keys", "━", "6000/8000", "2,000/s", "0:00:01"]),
        ("files", 8, ["files", "━", "6/8", "2/s", "0:00:01"]),
    ],
)
def test_a_stage_shows_what_is_done_of_how_much_how_fast_and_how_long(
    make_progress: Callable[..., TerminalProgress], clock: Clock, terminal: Terminal,
    stage: str, total: int, shown: list[str],
) -> None:  # fmt: skip
    with make_progress() as progress:
        run(progress, clock, stage, *((total * quarter // 4, total) for quarter in range(4)))
        clock.seconds -= 1
    assert last_line(terminal) == shown


def test_one_stage_follows_another(
    make_progress: Callable[..., TerminalProgress], clock: Clock, terminal: Terminal
) -> None:
    with make_progress() as progress:
        run(progress, clock, "bytes", (100_000, 200_000), (200_000, 200_000))
        run(progress, clock, "keys", (3, 4))
    assert last_line(terminal)[:3] == ["keys", "━", "3/4"]
    shown = terminal.getvalue()
    assert shown.index("reading") < shown.index("keys")
    # Each stage has its line; when it is over the cursor is there again, and the line is erased.
    assert shown.count("\x1b[?25l") == shown.count("\n\x1b[?25h\r\x1b[1A\x1b[2K") == 2
    assert shown.endswith("\x1b[2K")


def test_there_is_no_rate_before_something_is_done(
    make_progress: Callable[..., TerminalProgress], clock: Clock, terminal: Terminal
) -> None:
    with make_progress() as progress:
        run(progress, clock, "keys", (0, 4))
    assert last_line(terminal) == ["keys", "0/4", "-:--:--"]


def test_the_names_are_as_wide_as_the_longest(
    make_progress: Callable[..., TerminalProgress], clock: Clock, terminal: Terminal
) -> None:
    with make_progress() as progress:
        run(progress, clock, "keys", (4, 4))
    assert "keys        ━" in terminal.getvalue()


def test_a_rate_has_its_colour(
    make_progress: Callable[..., TerminalProgress], clock: Clock, terminal: Terminal
) -> None:
    with make_progress(colours=True) as progress:
        run(progress, clock, "keys", (1, 4), (2, 4))
    assert "\x1b[31m1/s" in terminal.getvalue()


def test_where_nothing_is_done_nothing_is_shown(
    make_progress: Callable[..., TerminalProgress], terminal: Terminal
) -> None:
    with make_progress():
        pass
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stage", ["bytes", "keys"])
def test_what_is_printed_meanwhile_passes_above_the_bar_if_it_goes_to_the_same_terminal(
    make_progress: Callable[..., TerminalProgress], terminal: Terminal, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    for stdout in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stdout", stdout)
        terminal.truncate(0)
        with make_progress() as progress:
            progress(stage, 1, 2)
            print("a finding")
        same = stdout.isatty()
        assert ("a finding\n" in terminal.getvalue()) == same
        assert stdout.getvalue() == ("" if same else "a finding\n")


@pytest.mark.parametrize("steps", range(3))
def test_a_terminal_that_has_gone_away_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    environment_of_a_terminal(monkeypatch)
    tried: list[str] = []

    class Leaving(Terminal):
        is_there = True

        def write(self, text: str) -> int:
            if not self.is_there:
                tried.append(text)
                raise OSError(5, "Input/output error")
            return super().write(text)

    terminal = Leaving()
    with TerminalProgress(Console(file=terminal)) as progress:
        for number, stage in enumerate(("bytes", "keys")):
            terminal.is_there = number < steps
            progress(stage, 1, 2)
        terminal.is_there = False
    assert tried
