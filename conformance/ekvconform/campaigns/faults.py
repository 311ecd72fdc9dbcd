"""Makes the system calls of a program fail, and kills or interrupts it: `ekvconform faults`.

First a run is recorded. Then there is one run for each call that writes (open for writing,
write, flush, close, rename, link, make, remove, change) to a path in OUT, and for each of
these faults:

    fault          what happens
    -------------  ---------------------------------------------------------------------
    EIO, ENOSPC,   the call is not executed and fails with this error, if it can
    EDQUOT, EINTR
    EIO on         this flush or close and all later ones fail with EIO
    kill before    the program is killed right before the call
    kill after     it is killed at its next file system call
    interrupt      SIGINT is sent, and delivered when the call has been executed

and, without intercepting calls:

    full disk      OUT is on a memory file system with room for what is there before the run
                   and one page more, two pages more, and so on, to more than a dump needs
    no inode left  the same with 1, 2 .. inodes
    unwritable     a directory exists already and is read-only; run without privileges
    flush          nothing fails; passes if there is a flush before CHECKSUMS appears

    judged                                                        verdict
    ------------------------------------------------------------  ---------------------
    reported as complete, and the dump is wrong                   FAIL
    reported as complete, although a flush or close failed        FAIL [SAFE-31]
    refused, and there is a seal                                  FAIL [SAFE-27]
    a partial blob under its final name                           FAIL [SAFE-19]
    a seal over an incomplete tree                                FAIL [SAFE-23]
    CHECKSUMS appears without a flush before it                   FAIL [SAFE-22]
    interrupted, and a file is left that does not belong to a     FAIL [SAFE-24]
    dump
    interrupted, and there is a seal without the dump             FAIL [SAFE-24]
    after "EIO on", fewer faults reported than calls failed       FAIL [SAFE-31]
    killed, and more than one file is left that does not belong   FAIL [SAFE-25]
    to a dump
    killed or interrupted, and the same run again neither         FAIL [SAFE-26]
    completes nor names what must be removed first
    a full disk that is not reported as one, or another fault     WRONG_REASON [SAFE-28],
    that is, as far as the profile maps the message               [SAFE-29]
    the program did something unobservable; the call was not      VOID
    made

A call that is made to fail is not executed. So a close that fails leaves its descriptor
open, which a real close does not.
"""

import errno
import os
import re
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.golden_cases import Case, Planted, Scene
from ekvconform.cases.moments import BLOB, DELETED, NEVER_NAMED, Moment, Moments, Names
from ekvconform.cases.system_calls import CALLS, CHANGE, CLOSE, FLUSH, LINK, MAKE, OPEN, REMOVE, RENAME, WRITE, Call
from ekvconform.judge.aspects import OUTCOME
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import Form, form_of
from ekvconform.judge.tree_comparison import (
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    SEAL_NAMES,
    differences_of_manifest,
    differences_of_seal,
    differences_of_tree,
)
from ekvconform.judge.tree_explanations import NO_FILE
from ekvconform.judge.verdicts import ESCAPED, FAIL, PASS, VOID, WRONG_REASON, bad_ending, command_of, first_line
from ekvconform.judge.workers import PATIENCE_SECONDS, WORKER_ENDED, run_in_workers
from ekvconform.run.looks import Look, iter_below, look, shown_path, touched
from ekvconform.run.namespaces import PAGE_SIZE, mount_memory
from ekvconform.run.processes import drop_capabilities
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import Finish, Sandbox, make_sandbox, run_program
from ekvconform.run.seccomp import GO_ON, Answer, hold_program
from ekvconform.run.time_limit import WALL_FACTOR

KILL_BEFORE: Final = "kill before"
KILL_AFTER: Final = "kill after"
INTERRUPT: Final = "interrupt"
EIO_ON: Final = "EIO on"
FULL_DISK: Final = "full disk"
NO_INODE: Final = "no inode left"
UNWRITABLE: Final = "unwritable"
FLUSHED: Final = "flush"
ERRORS: Final = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
HELD: Final = (*ERRORS, EIO_ON, KILL_BEFORE, KILL_AFTER, INTERRUPT)
FAULTS: Final = (*HELD, FULL_DISK, NO_INODE, UNWRITABLE, FLUSHED)
ERRORS_OF_KIND: Final = {
    OPEN: ERRORS, WRITE: ERRORS, FLUSH: ERRORS, CLOSE: ERRORS, RENAME: ERRORS[:3], LINK: ERRORS[:3], MAKE: ERRORS[:3],
    REMOVE: ERRORS[:1], CHANGE: ERRORS[:1],
}  # fmt: skip
"""Errors that each kind of call can fail with, by the manual pages; `ERRORS_OF_CALL` overrides it."""
ERRORS_OF_CALL: Final = {"truncate": ("EIO", "EINTR"), "ftruncate": ("EIO", "EINTR"), "fallocate": ERRORS}
DISK_FULL: Final = "disk-full"
IO_ERROR: Final = "io-error"
SPARE: Final = 8
"""Pages, or inodes, that a dump needs besides blobs and sidecars: the seal and temporary files."""
MAX_PAGES: Final = 400
"""Largest memory file system; a case that needs a larger one is not run on a full disk."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run with one fault."""

    fault: str
    moment: Moment | None = None
    """The call that fails, or at which the program is killed or interrupted."""
    amount: int = 0
    """Pages or inodes of the memory file system."""
    directory: str = ""
    """The read-only directory, from the directory above OUT."""
    links: bool = False
    """Does the program link unnamed files (O_TMPFILE) to a name?"""

    @property
    def call(self) -> str:
        """Row of the table that the trial counts in."""
        if self.fault == FLUSHED:
            return "CHECKSUMS"
        return self.moment.name if self.moment else "a directory" if self.directory else "the disk"

    def __str__(self) -> str:
        if self.fault == FLUSHED:
            return "flush before CHECKSUMS appears"
        if self.moment:
            return f"{self.fault}, {str(self.moment).removeprefix('before ')}"
        return f"{self.fault}: {self.directory or self.amount}"


@dataclass(frozen=True, slots=True)
class Tried:
    """The verdict on a trial."""

    trial: Trial
    verdict: str
    words: str


# ---- which runs there are ----


def iter_trials(case: Case, moments: Sequence[Moment]) -> Iterator[Trial]:
    """Yield all trials of a case whose moments have been recorded."""
    links = any(CALLS[moment.name].kind == LINK for moment in moments)
    for moment in moments:
        kind = CALLS[moment.name].kind
        if not (moment.writes and moment.places):
            continue
        for error in ERRORS_OF_CALL.get(moment.name, ERRORS_OF_KIND[kind]):
            yield Trial(error, moment, links=links)
        if settles(moment, links=links):
            yield Trial(EIO_ON, moment, links=links)
        yield Trial(KILL_BEFORE, moment)
        yield Trial(KILL_AFTER, moment)
        yield Trial(INTERRUPT, moment)
    out = os.fsdecode(case.scene.out)
    there = {os.fsdecode(path): planted.data for path, planted in case.scene.planted.items()}
    made = {f"{out}/{os.fsdecode(path)}": data for path, data in case.expected.tree.items()}
    pages = range(_pages(there) + 1, _pages(there | made) + SPARE)
    if len(pages) <= MAX_PAGES:
        yield from (Trial(FULL_DISK, amount=amount) for amount in pages)
    inodes = range(1 + len(_directories(there) | there.keys()), 1 + len(_directories(made) | made.keys()) + SPARE)
    yield from (Trial(NO_INODE, amount=amount) for amount in inodes)
    if not case.scene.has_output:
        yield Trial(UNWRITABLE, directory=".")
    if "into_existing" in case.scene.options:
        yield from (Trial(UNWRITABLE, directory=directory) for directory in sorted(_directories(made)))


def judge_flush(moments: Sequence[Moment]) -> Tried:
    """Judge whether anything is flushed to disk before CHECKSUMS appears. [SAFE-22]"""
    for moment in moments:
        kind = CALLS[moment.name].kind
        if kind == FLUSH:
            break
        if moment.writes and kind in (RENAME, LINK, OPEN) and moment.places[-1:] == ("CHECKSUMS",):
            return Tried(Trial(FLUSHED), FAIL, f"nothing is flushed {moment} [SAFE-22]")
    return Tried(Trial(FLUSHED), PASS, "flushed")


def _pages(files: Mapping[str, bytes]) -> int:
    return sum(len(data) // PAGE_SIZE + 1 for data in files.values())


def _directories(paths: Iterable[str]) -> set[str]:
    """Return the ancestors of paths, without the directory that the paths are relative to."""
    return {str(directory) for path in paths for directory in Path(path).parents if directory.name}


# ---- one run ----


def run_trials(
    case: Case,
    profile: Profile,
    trials: Sequence[Trial],
    jobs: int,
    on_result: Callable[[Tried], None],
    known: frozenset[Form] = frozenset(),
) -> list[Tried]:
    """Run and judge each trial in a process of its own. Raises `OSError`.

    `known` is what differs in a run without any fault; it is not reported again.
    """

    def work(trial: Trial, directory: Path, stop: int) -> Tried:
        verdict, words = _Attempt(trial, case, profile, directory, stop, known).judge()
        return Tried(trial, verdict, words)

    def ended(trial: Trial) -> Tried:
        return Tried(trial, ESCAPED, WORKER_ENDED)

    def failed(trial: Trial, error: Exception) -> Tried:
        return Tried(trial, VOID, f"{type(error).__name__}: {error}")

    # A trial runs the program up to three times.
    seconds = 3 * WALL_FACTOR * profile.limits.seconds + PATIENCE_SECONDS
    return run_in_workers(work, trials, jobs, seconds, ended, failed, on_result)


class _Attempt:
    """Runs one trial, in a directory of its own."""

    def __init__(
        self, trial: Trial, case: Case, profile: Profile, directory: Path, stop: int, known: frozenset[Form]
    ) -> None:
        self._trial = trial
        self._known = known
        self._case = case
        self._profile = profile
        self._stop = stop
        scene = _scene_of(trial, case.scene)
        self._box = make_sandbox(directory, scene)
        if trial.fault in (FULL_DISK, NO_INODE):
            amount = f"size={trial.amount * PAGE_SIZE}" if trial.fault == FULL_DISK else f"nr_inodes={trial.amount}"
            mount_memory(directory / "work", amount)
        self._command = command_of(profile, scene, self._box, self._box.arrange(scene))
        if trial.directory == ".":
            (directory / "work").chmod(0o555)
        if trial.fault == UNWRITABLE:
            drop_capabilities()
        self._may_lose = scene.hard_link_count
        self._before = self._box.look_outside()
        self._out_before = look(self._box.out)
        self._failed_count = 0
        """Number of calls that were made to fail."""
        self._is_met = False

    def judge(self) -> tuple[str, str]:
        """Run the program; return the verdict and an explanation. Raises `OSError` if the run cannot be prepared."""
        finish, unseen = self._run()
        if escaped := self._escaped():
            return ESCAPED, escaped
        if unseen:
            return VOID, f"not observable: {unseen[0]}"
        if self._trial.moment and not self._is_met:
            return VOID, "the call was not made"
        if self._trial.fault in (KILL_BEFORE, KILL_AFTER):
            return self._judge_killed(finish)
        if self._trial.fault == INTERRUPT:
            return self._judge_interrupted(finish)
        if ending := bad_ending(finish, self._profile):
            return ending[0], str(ending[1])
        if finish.exit_status in self._profile.exits[self._case.expected.outcome]:
            return self._judge_taken()
        return self._judge_refused(finish)

    def _run(self) -> tuple[Finish, list[str]]:
        trial = self._trial
        if trial.moment is None:
            return run_program(self._command, self._box, self._profile.limits, self._stop), []
        moments, is_done = Moments(self._box.real_out, Names(self._case.paths)), False

        def decide(call: Call) -> Answer:
            nonlocal is_done
            if is_done:
                return Answer(kill=True)
            moment = moments.moment_of(call)
            is_now = not self._is_met and moment == trial.moment
            self._is_met |= is_now
            settled = moment is not None and call.writes and settles(moment, links=trial.links)
            if trial.fault == EIO_ON and self._is_met and settled:
                self._failed_count += 1
                return Answer(errno.EIO)
            if is_now and trial.fault == INTERRUPT:
                return Answer(interrupt=True)
            if is_now and trial.fault == KILL_BEFORE:
                return Answer(kill=True)
            if is_now and trial.fault == KILL_AFTER:
                is_done = True
            elif is_now and trial.fault in ERRORS:
                self._failed_count += 1
                return Answer(getattr(errno, trial.fault))
            return GO_ON

        held = hold_program(self._command, self._box, self._profile.limits, decide, self._stop)
        return held.finish, held.unseen

    def _escaped(self) -> str:
        paths = touched(self._before, self._box.look_outside(), self._may_lose)
        return f"touched: {', '.join(paths)} [SAFE-5]" if paths else ""

    # ---- how it ended ----

    def _judge_taken(self) -> tuple[str, str]:
        trial = self._trial
        if differences := [*self._differences(), *self._differences_of_manifest()]:
            return FAIL, f"reported as {self._case.expected.outcome}, and {self._reported(differences[0])}"
        if trial.moment and trial.fault != "EINTR" and settles(trial.moment, links=trial.links):
            return FAIL, f"a failed {trial.moment.name} is not reported [SAFE-31]"
        return PASS, "went on"

    def _judge_refused(self, finish: Finish) -> tuple[str, str]:
        trial, profile = self._trial, self._profile
        if finish.exit_status not in profile.refused:
            return FAIL, f"exit status {finish.exit_status}, which means neither a dump nor a refusal"
        found = set() if self._is_as_it_was() else files_of(self._box)
        if seals := [name.decode() for name in SEAL_NAMES if name in found]:
            return FAIL, f"refused, and {' and '.join(seals)} is there [SAFE-27]"
        if partial := self._partial_blob():
            return FAIL, partial
        fault, clause = IO_ERROR, "SAFE-29"
        if trial.fault in ("ENOSPC", "EDQUOT", FULL_DISK, NO_INODE):
            fault, clause = DISK_FULL, "SAFE-28"
        reason = profile.reason_in(finish.stderr)
        if reason is not None and reason.fault != fault:
            return WRONG_REASON, f"reported as {reason.fault}, not {fault} [{clause}]: {first_line(finish.stderr)}"
        if finish.exit_status not in profile.statuses_of_fault(fault):
            return WRONG_REASON, f"exit status {finish.exit_status} is not that of {fault} [{clause}]"
        if reason is None and profile.texts:
            return PASS, "refused, in a message that the profile does not map"
        if trial.fault == EIO_ON and profile.texts:
            count = profile.count_reasons(finish.stderr)
            if count < self._failed_count:
                return FAIL, f"{self._failed_count} calls failed, and {count} are reported [SAFE-31]"
        return PASS, "refused"

    def _judge_killed(self, finish: Finish) -> tuple[str, str]:
        if finish.signal != signal.SIGKILL:
            return VOID, f"not killed, exit status {finish.exit_status}"
        if partial := self._partial_blob():
            return FAIL, partial
        # An earlier seal is removed in two steps; what is left of it in between is not this run's.
        now = look(self._box.out)
        found = {path for path in files_of(self._box) if self._is_own(path, now)}
        if CHECKSUMS_NAME in found and (differences := self._differences()):
            return FAIL, f"CHECKSUMS is there, and {differences[0]} [SAFE-23]"
        if MANIFEST_NAME in found and (differences := self._differences_of_manifest()):
            return FAIL, f"MANIFEST.json is there, and incomplete: {differences[0]} [SAFE-20]"
        if MANIFEST_NAME in found:
            # An extra file may be the temporary file of CHECKSUMS.
            missing = [each for each in self._differences_of_tree() if each.expected != NO_FILE]
            if missing:
                return FAIL, f"MANIFEST.json is there, and {missing[0]} [SAFE-23]"
        known = {*self._case.expected.tree, *SEAL_NAMES, *self._planted_files()}
        if len(others := sorted(found - known)) > 1:
            return FAIL, f"killed, and it left {b', '.join(others).decode(errors='backslashreplace')} [SAFE-25]"
        return self._judge_again()

    def _judge_interrupted(self, finish: Finish) -> tuple[str, str]:
        """Judge a run that was interrupted, perhaps too late; how the program then ends is not compared."""
        if finish.signal in (None, signal.SIGINT):
            ending_of = replace(finish, signal=None, exit_status=min(self._profile.documented()), stdout="", stderr="")
        else:
            ending_of = finish
        if ending := bad_ending(ending_of, self._profile):
            return ending[0], str(ending[1])
        if partial := self._partial_blob():
            return FAIL, partial
        found = files_of(self._box)
        differences = self._differences()
        if CHECKSUMS_NAME in found and not differences:
            return PASS, "too late"
        if finish.exit_status in self._profile.exits[self._case.expected.outcome]:
            return FAIL, f"interrupted, reported as {self._case.expected.outcome}, and {differences[0]} [SAFE-24]"
        now = look(self._box.out)
        found = {path for path in found if self._is_own(path, now)}
        if seals := [name.decode() for name in SEAL_NAMES if name in found]:
            return FAIL, f"interrupted, and {' and '.join(seals)} is there [SAFE-24]"
        known = {*self._case.expected.tree, *self._planted_files()}
        if others := sorted(found - known):
            return FAIL, f"interrupted, and it left {b', '.join(others).decode(errors='backslashreplace')} [SAFE-24]"
        return self._judge_again()

    def _judge_again(self) -> tuple[str, str]:
        """Run the same command again, and remove what the program asks to have removed."""
        words = "again: complete"
        finish = run_program(self._command, self._box, self._profile.limits, self._stop)
        if finish.exit_status in self._profile.refused and not bad_ending(finish, self._profile):
            named = named_paths(finish.stderr, self._box.out)
            if not named:
                return FAIL, f"again: refused, without saying what to remove [SAFE-26]: {first_line(finish.stderr)}"
            for path in named:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            words = f"again: removed {', '.join(os.path.relpath(path, self._box.out) for path in named)}, then complete"
            finish = run_program(self._command, self._box, self._profile.limits, self._stop)
        if escaped := self._escaped():
            return ESCAPED, f"again: {escaped}"
        if ending := bad_ending(finish, self._profile):
            return ending[0], f"again: {ending[1]}"
        if finish.exit_status not in self._profile.exits[self._case.expected.outcome]:
            return FAIL, f"again: refused [SAFE-26]: {first_line(finish.stderr)}"
        if differences := self._differences():
            return FAIL, f"again: {self._reported(differences[0])}"
        return PASS, words

    # ---- what is in OUT ----

    def _differences(self) -> list[Difference]:
        """Compare the tree and its seal with a complete dump."""
        return [*self._differences_of_tree(), *self._or_unreadable(differences_of_seal, self._box.out)]

    def _differences_of_tree(self) -> list[Difference]:
        arguments = self._case.expected, self._box.out, self._out_before, self._case.scene
        return self._or_unreadable(differences_of_tree, *arguments)

    def _differences_of_manifest(self) -> list[Difference]:
        """Compare MANIFEST.json of a first run; that of a second run may mention what the first has left."""
        arguments = self._case.expected, self._box.out, self._box.root / "in"
        return self._or_unreadable(differences_of_manifest, *arguments)

    def _or_unreadable(self, compare: Callable[..., list[Difference]], *arguments: Any) -> list[Difference]:
        try:
            return [each for each in compare(*arguments) if form_of(each) not in self._known]
        except OSError as error:
            return [Difference(OUTCOME, "OUT", "a tree that its owner can read", str(error))]

    def _reported(self, difference: Difference) -> str:
        return f"{difference} [{difference.clause or self._case.clauses[0]}]"

    def _is_own(self, path: bytes, now: Look) -> bool:
        """Return True if a file in OUT is new or differs from before the run."""
        return now.get(shown_path(path)) != self._out_before.get(shown_path(path))

    def _is_as_it_was(self) -> bool:
        """Return True if OUT is unchanged; then nothing in it belongs to the program."""
        return look(self._box.out) == self._out_before

    def _partial_blob(self) -> str:
        """Describe a partial blob, or return the empty text; a blob from before the run may still be there."""
        planted = self._planted_files()
        for path in sorted(files_of(self._box)):
            if BLOB.fullmatch(os.fsdecode(path)):
                data = (self._box.out / os.fsdecode(path)).read_bytes()
                if data not in (self._case.expected.tree.get(path), planted.get(path)):
                    return f"a partial blob under its final name, {os.fsdecode(path)} [SAFE-19]"
        return ""

    def _planted_files(self) -> dict[bytes, bytes]:
        out = self._case.scene.out + b"/"
        planted = self._case.scene.planted.items()
        return {path.removeprefix(out): each.data for path, each in planted if each.kind == "file"}


def _scene_of(trial: Trial, scene: Scene) -> Scene:
    if trial.fault != UNWRITABLE or trial.directory == ".":
        return scene
    directory = Planted("directory", mode=0o555)
    # Everything that the scene plants, below this directory too, is made before the mode is set.
    return replace(scene, planted={**scene.planted, os.fsencode(trial.directory): directory})


def settles(moment: Moment, *, links: bool) -> bool:
    """Predicate: is it a flush or close of a file that has a name, or will get one?"""
    if CALLS[moment.name].kind not in (FLUSH, CLOSE):
        return False
    # The kernel shows a file that was created without a name as `#<inode> (deleted)`, even after it has been linked.
    return not moment.places[0].endswith(DELETED) or (links and NEVER_NAMED in moment.places[0])


def files_of(box: Sandbox) -> set[bytes]:
    """Return everything in OUT that is not a directory."""
    return {path for path, status in iter_below(box.out) if not stat.S_ISDIR(status.st_mode)}


def named_paths(text: str, out: Path) -> list[Path]:
    """Return the paths at and below OUT that a text names and that exist; the deepest first."""
    found = set()
    # By an absolute path, or relative to the directory above OUT, which is the current directory of the program.
    for match in re.finditer(
        rf"(?<![\w/.-])({re.escape(str(out))}|{re.escape(out.name)})(?![\w-])(/[^\s'\"`:,;]*)?", text
    ):
        path = Path(str(out) + (match[2] or "").rstrip("/."))
        if os.path.lexists(path):
            found.add(path)
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def count_trials(found: Sequence[Tried]) -> dict[tuple[str, str], Counter[str]]:
    """Return (call, fault) = how often each verdict occurred."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for tried in found:
        counts.setdefault((tried.trial.call, tried.trial.fault), Counter())[tried.verdict] += 1
    return counts
