"""A busy machine changes no verdict: limits of time count what a program was given."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from ekvconform.judge.workers import run_in_workers
from ekvconform.run import time_limit
from ekvconform.run.time_limit import WALL_FACTOR, StarvedError, TimeLimit, has_ready_thread, processor_seconds

SECONDS = 20.0


class Machine:
    """A program as the system shows it: processor time used, and whether it is ready to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = 0.0
        self.is_ready = False
        monkeypatch.setattr(time_limit, "processor_seconds", lambda pid: self.used)
        monkeypatch.setattr(time_limit, "has_ready_thread", lambda pid: self.is_ready)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_program_that_computes_times_out_by_processor_time(machine: Machine) -> None:
    limit = TimeLimit(SECONDS, 0)
    machine.is_ready = True
    machine.used = SECONDS
    assert not limit.is_reached(lambda: [1], 3 * SECONDS)
    machine.used = SECONDS + 0.1
    assert limit.is_reached(lambda: [1], 3 * SECONDS + 1)


def test_a_program_that_waits_times_out_by_the_clock(machine: Machine) -> None:
    limit = TimeLimit(SECONDS, 0)
    assert not limit.is_reached(lambda: [1], SECONDS)
    assert limit.is_reached(lambda: [1], SECONDS + 0.1)


def test_a_program_that_goes_on_slowly_does_not_time_out(machine: Machine) -> None:
    limit = TimeLimit(SECONDS, 0)
    for minute in range(1, 4):
        machine.used += 1
        assert not limit.is_reached(lambda: [1], SECONDS * minute + 1)


def test_a_program_that_is_held_is_not_waiting(machine: Machine) -> None:
    limit = TimeLimit(SECONDS, 0)
    limit.note_progress(2 * SECONDS)
    assert not limit.is_reached(lambda: [1], 2 * SECONDS + 1)
    assert limit.is_reached(lambda: [1], 3 * SECONDS + 1)


def test_a_program_that_is_ready_and_not_run_is_starved(machine: Machine) -> None:
    limit = TimeLimit(SECONDS, 0)
    machine.is_ready = True
    assert not limit.is_reached(lambda: [1], WALL_FACTOR * SECONDS)
    with pytest.raises(StarvedError, match=r"0\.0 s of processor time in 201 s"):
        limit.is_reached(lambda: [1], WALL_FACTOR * SECONDS + 1)


def test_the_system_shows_what_a_process_does() -> None:
    computing = subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"])
    waiting = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        begin = time.monotonic()
        while processor_seconds(computing.pid) < 0.2 and time.monotonic() < begin + 60:
            pass
        assert processor_seconds(computing.pid) >= 0.2
        assert has_ready_thread(computing.pid)
        while has_ready_thread(waiting.pid) and time.monotonic() < begin + 60:
            pass
        assert not has_ready_thread(waiting.pid)
    finally:
        for process in (computing, waiting):
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
    assert processor_seconds(computing.pid) == 0
    assert not has_ready_thread(computing.pid)


def test_what_was_starved_is_run_again_alone_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def work(item: str, directory: Path, stop: int) -> str:
        with open(tmp_path / item, "a") as file:
            file.write("x")
        if item == "always" or (item == "once" and (tmp_path / item).read_text() == "x"):
            raise StarvedError(item)
        return f"done {item}"

    def ended(item: str) -> str:
        return f"ended {item}"

    def failed(item: str, error: Exception) -> str:
        return f"{type(error).__name__} {item}"

    results = run_in_workers(work, ["never", "once", "always"], 3, 60, ended, failed)
    assert results == ["done never", "done once", "StarvedError always"]
    assert capfd.readouterr().err == "starved of processor time, run again alone: 2\n"
