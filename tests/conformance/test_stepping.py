"""A program is held at each of its file calls, and the tree is rearranged meanwhile."""

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from decoders import JUDGE_COMMAND
from ekvconform import cli
from ekvconform.campaigns.races import Step, iter_steps, record_moments, run_steps
from ekvconform.cases.golden_cases import Case, Scene
from ekvconform.cases.limits import Limits
from ekvconform.cases.loading import load_cases
from ekvconform.cases.moments import Moment
from ekvconform.cases.system_calls import Call
from ekvconform.judge.workers import run_in_workers
from ekvconform.run.profiles import Profile, make_profile
from ekvconform.run.sandbox import make_sandbox
from ekvconform.run.seccomp import GO_ON, Answer, CannotHoldError, Held, hold_program

EASY = next(case for case in load_cases() if case.id == "rstr-envelope")

# Looks at each directory by its path, and then opens by path what lies in it: good enough without company.
LOOKS_FIRST = """
import os, stat, sys
out = sys.argv[1]
directory = out + "/redis"
os.mkdir(out)
os.mkdir(directory)
if not stat.S_ISDIR(os.lstat(directory).st_mode):
    sys.exit(4)
with open(directory + "/k.bin", "xb") as file:
    file.write(b"v")
"""
# The same by handles.
BY_HANDLE = """
import os, sys
os.mkdir(sys.argv[1])
out = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
os.mkdir("redis", dir_fd=out)
directory = os.open("redis", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=out)
file = os.open("k.bin", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=directory)
os.write(file, b"v")
os.close(file)
"""
# The same, under names that are made up anew for each run.
MADE_UP_NAMES = """
import os, sys, tempfile
os.mkdir(sys.argv[1])
out = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
os.mkdir("redis", dir_fd=out)
directory = os.open("redis", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=out)
name = next(tempfile._get_candidate_names())
file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=directory)
os.write(file, b"v")
os.close(file)
os.rename(name, "k.bin", src_dir_fd=directory, dst_dir_fd=directory)
"""
# Looks and opens through the process's own handles, which is by path all the same.
BY_OWN_PROC = """
import os, sys
os.mkdir(sys.argv[1])
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
place = f"/proc/self/fd/{directory}/k.bin"
if not os.path.lexists(place):
    with open(place, "wb") as file:
        file.write(b"v")
"""
# Opens OUT wherever its name leads, if somebody else has made it.
FOLLOWS_OUT = """
import os, sys
try:
    os.mkdir(sys.argv[1])
except FileExistsError:
    pass
with open(sys.argv[1] + "/k.bin", "wb") as file:
    file.write(b"v")
"""
# Opens what is there for reading and writing, which a FIFO lets happen.
FEEDS = """
import os, sys
os.mkdir(sys.argv[1])
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
file = os.open("k.bin", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, dir_fd=directory)
if os.fstat(file).st_nlink == 1:
    os.write(file, b"v")
"""
MAPS_ELSEWHERE = """
import ctypes, mmap, os, sys
os.mkdir(sys.argv[1])
file = os.memfd_create("x")
os.truncate(file, 10)
mmap.mmap(file, 10)[0] = 7
with open(os.environ["TMPDIR"] + "/shared", "w+b") as shared:
    shared.truncate(10)
    mmap.mmap(shared.fileno(), 10)[0] = 7
"""
MAPS = """
import mmap, os, sys
os.mkdir(sys.argv[1])
with open(sys.argv[1] + "/x", "w+b") as file:
    file.truncate(10)
    mmap.mmap(file.fileno(), 10)[0] = 7
"""


def profile_of(program: str) -> Profile:
    guarded = f"try:\n    exec({program!r})\nexcept OSError:\n    raise SystemExit(4)\n"
    command = [sys.executable, "-I", "-S", "-c", guarded, "{out}", "{snapshot}"]
    return make_profile({"command": command, "limits": {"seconds": 4}}).located()  # some wait for a FIFO's reader


def steps_of(program: str) -> Counter[tuple[str, str]]:
    profile = profile_of(program)
    steps = list(iter_steps(record_moments(EASY, profile)))
    found = run_steps(EASY, profile, steps, 2, lambda stepped: None)
    return Counter((stepped.step.scene, stepped.verdict) for stepped in found)


def test_a_look_and_then_an_open_is_caught_between_the_two() -> None:
    found = steps_of(LOOKS_FIRST)
    assert found["swap", "ESCAPED"] >= 2, found
    assert {verdict for _, verdict in found} == {"PASS", "ESCAPED"}
    assert found["symlink", "ESCAPED"] == found["hard-link", "ESCAPED"] == 0, "O_EXCL opens no link"


def test_handles_leave_no_moment() -> None:
    assert {verdict for _, verdict in steps_of(BY_HANDLE)} == {"PASS"}


def test_names_that_are_made_up_are_reported_by_their_role() -> None:
    found = steps_of(MADE_UP_NAMES)
    assert {verdict for _, verdict in found} == {"PASS"}
    assert found["replace", "PASS"] >= 3


@pytest.mark.parametrize(
    ("program", "scene"),
    [(BY_OWN_PROC, "symlink"), (FOLLOWS_OUT, "swap"), (FEEDS, "fifo-reader")],
    ids=["own proc", "follows OUT", "feeds a FIFO"],
)
def test_what_leads_outside_is_caught(program: str, scene: str) -> None:
    assert steps_of(program)[scene, "ESCAPED"] >= 1


def test_what_is_mapped_elsewhere_is_nobodys_business() -> None:
    assert not hold(MAPS_ELSEWHERE, lambda call: GO_ON).unseen
    assert {verdict for _, verdict in steps_of(MAPS_ELSEWHERE)} == {"PASS"}


def test_a_killed_program_is_killed_with_its_children() -> None:
    program = (
        "import os, sys\npid = os.fork()\nif pid == 0:\n    os.mkdir(sys.argv[1])\n    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    held = hold(program, lambda call: Answer(kill=call.name == "mkdir"))
    assert (held.finish.signal, held.finish.exit_status) == (9, None)


def test_what_cannot_be_seen_proves_nothing() -> None:
    held = hold(MAPS, lambda call: GO_ON)
    assert held.finish.exit_status == 0
    assert [words for words in held.unseen if words.endswith("/out/x that is shared and writable")]
    last = list(iter_steps(record_moments(EASY, profile_of(MAPS))))[-1]
    (stepped,) = run_steps(EASY, profile_of(MAPS), [last], 1, lambda stepped: None)
    assert stepped.verdict == "VOID"
    assert "a mapping of" in stepped.words


def test_a_moment_that_does_not_come_proves_nothing() -> None:
    step = Step(Moment("rename", ("nowhere",), 0), "swap", ".")
    (stepped,) = run_steps(EASY, profile_of(BY_HANDLE), [step], 1, lambda stepped: None)
    assert (stepped.verdict, stepped.words) == ("VOID", "the moment did not come")


def test_the_same_program_has_the_same_moments() -> None:
    profile = profile_of(LOOKS_FIRST)
    first, second = (record_moments(EASY, profile) for _ in range(2))
    assert first == second
    names = [(moment.name.removesuffix("at"), moment.places) for moment in first]
    assert ("mkdir", ("redis",)) in names
    assert ("open", ("redis/k.bin",)) in names


def hold(program: str, decide: Callable[[Call], Answer]) -> Held:
    def work(case: Case, directory: Path, stop: int) -> Held:
        box = make_sandbox(directory, Scene())
        return hold_program(
            [sys.executable, "-I", "-S", "-c", program, str(box.out)], box, Limits(seconds=10), decide, stop
        )

    def failed(case: Case, error: Exception | None = None) -> Held:
        raise AssertionError(error)

    (held,) = run_in_workers(work, [EASY], 1, 60, failed, failed)
    return held


def test_a_call_can_be_answered_with_an_error_or_end_the_program() -> None:
    def full(call: Call) -> Answer:
        return Answer(errno.ENOSPC) if call.name.startswith("mkdir") else GO_ON

    program = "import os, sys\ntry:\n    os.mkdir(sys.argv[1])\nexcept OSError as error:\n    sys.exit(error.errno)"
    assert hold(program, full).finish.exit_status == errno.ENOSPC
    kill = hold(program, lambda call: Answer(kill=call.name.startswith("mkdir")))
    assert kill.finish.signal == 9
    assert hold(program, lambda call: GO_ON).finish.exit_status == 0


def test_calls_of_children_and_threads_are_held_too() -> None:
    program = (
        "import os, sys, threading\nos.mkdir(sys.argv[1])\n"
        "thread = threading.Thread(target=lambda: os.mkdir(sys.argv[1] + '/thread'))\nthread.start()\nthread.join()\n"
        "if os.fork() == 0:\n    os.mkdir(sys.argv[1] + '/child')\n    os._exit(0)\nos.wait()"
    )
    names: list[str] = []

    def work(case: Case, directory: Path, stop: int) -> list[str]:
        box = make_sandbox(directory, Scene())

        def decide(call: Call) -> Answer:
            if call.name.startswith("mkdir"):
                names.append(os.path.basename(call.paths[0]))
            return GO_ON

        hold_program([sys.executable, "-I", "-S", "-c", program, str(box.out)], box, Limits(seconds=10), decide, stop)
        return names

    (reported,) = run_in_workers(work, [EASY], 1, 60, lambda case: ["ended"], lambda case, error: [str(error)])
    assert reported == ["out", "thread", "child"]


def test_where_a_program_cannot_be_held_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(CannotHoldError, match="riscv64"):
        hold_program(["true"], make_sandbox(tmp_path, Scene()), Limits(), lambda call: GO_ON)
    assert cli.main(["step", *JUDGE_COMMAND, "rstr-envelope"]) == 2


def test_the_command_says_at_which_moment(capfd: pytest.CaptureFixture[str]) -> None:
    command = list(profile_of(LOOKS_FIRST).command)
    assert cli.main(["step", "rstr-envelope", "--", *command]) == 1
    reported = capfd.readouterr().out
    words = "ESCAPED swap at redis, before openat redis/k.bin: touched: canary/directory/k.bin [SAFE-5]"
    number = next(line for line in reported.splitlines() if words in line).partition(":")[0]
    assert f"    ekvconform step rstr-envelope --number {number} -- " in reported
    assert cli.main(["step", "rstr-envelope", "--number", number, "--", *command]) == 1
    again = capfd.readouterr().out
    assert f"{number}: {words}" in again
    assert "1 ESCAPED" in again
    assert cli.main(["step", "rstr-envelope", "--number", "100000", "--", *command]) == 2
    assert cli.main(["step", "file-bad-magic", "--", *command]) == 2
    assert cli.main(["step", "rstr-envelope", "--", "true", "{snapshot}", "{out}"]) == 2
