"""Runs a program on a case and gives a verdict.

    verdict       meaning
    ------------  ---------------------------------------------------------------
    PASS          as expected
    FAIL          accepted what must be refused, refused what must be accepted,
                  another tree, other warnings, or a seal after a refusal
    WRONG_REASON  refused, but for another fault than the case's, or at another place
    CRASH         a signal, a panic, a traceback, an undocumented exit status
    HANG          timed out
    LIMIT         too much memory or output
    ESCAPED       something other than OUT and TMPDIR was touched
    UNSUPPORTED   the case needs what the profile says the program lacks
    VOID          the run could not be prepared; never a pass

The judge examines the tree itself. The output of the program decides only about the
reason of a refusal, the warnings, and the findings of a verifier.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ekvconform.cases.golden_cases import DECODE, FINDINGS, REFUSED, UNTOUCHED, WHOLE, Case, Expected, Scene
from ekvconform.cases.limits import Limits
from ekvconform.cases.tolerances import counted_warnings
from ekvconform.judge.differences import Difference
from ekvconform.judge.tree_comparison import SEAL, differences_of_manifest, differences_of_seal, differences_of_tree
from ekvconform.run.profiles import OUTCOMES_TABLE, Profile
from ekvconform.run.sandbox import (
    Finish,
    Look,
    Sandbox,
    can_make_devices,
    drop_capabilities,
    look,
    make_sandbox,
    run_program,
    touched,
)
from ekvconform.run.seccomp import CannotHoldError, require_machine
from ekvconform.run.tampering import run_with_tampering

PASS: Final = "PASS"
FAIL: Final = "FAIL"
WRONG_REASON: Final = "WRONG_REASON"
CRASH: Final = "CRASH"
HANG: Final = "HANG"
LIMIT: Final = "LIMIT"
ESCAPED: Final = "ESCAPED"
UNSUPPORTED: Final = "UNSUPPORTED"
VOID: Final = "VOID"
VERDICTS: Final = (PASS, FAIL, WRONG_REASON, CRASH, HANG, LIMIT, ESCAPED, UNSUPPORTED, VOID)

PANIC: Final = re.compile(
    r"^(Traceback \(most recent call last\)|panic: |goroutine [0-9]+ \[|thread '.*'( \([0-9]+\))? panicked"
    r"|thread [0-9]+ panic: |Exception in thread |Unhandled exception"
    r"|.*\bERROR: [A-Za-z]+Sanitizer|.*: runtime error: )",
    re.MULTILINE,
)
"""What Python, Go, Rust, Zig, Java, .NET and the sanitizers of C print when a program crashes."""
MAX_DIFFERENCES: Final = 20
"""Differences of one case that are reported."""
NOT_REPORTED: Final = "not reported"
TOUCHED: Final = ("unchanged", "touched, created or removed")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one case, and why."""

    case: Case
    verdict: str
    differences: tuple[Difference, ...] = ()
    finish: Finish | None = None
    command: tuple[str, ...] = field(default=())
    unmapped: str | None = None
    """Message of a refusal that the profile does not map."""


def judge_case(
    case: Case,
    profile: Profile,
    folder: Path,
    *,
    strict_reasons: bool = False,
    stop: int | None = None,
    run: Callable[[Sequence[str], Sandbox, Limits, int | None], Finish] = run_program,
) -> Judgement:
    """Run a program on one case, in an empty directory, and judge it.

    With `strict_reasons` a refusal must name its fault. `stop` is as for `run_program`. `run` runs
    the program, unless the case has concurrent tampering.
    """
    if lack := profile.lacks(case):
        return Judgement(case, UNSUPPORTED, (Difference("the program", "what the case needs", lack),))
    try:
        if lack := _machine_lacks(case, folder):
            return Judgement(case, UNSUPPORTED, (Difference("the machine", "what the case needs", lack),))
        box = make_sandbox(folder, case.scene)
        snapshot = box.arrange(case.scene)
        if case.scene.is_for_the_unprivileged:
            drop_capabilities()
        command = command_of(profile, case.scene, box, snapshot)
        before, out_before = box.look_outside(), look(box.out)
    except OSError as error:
        return Judgement(case, VOID, (Difference("the scene", "prepared", f"not prepared: {error}"),))
    profile = replace(profile, limits=profile.limits.but(case.limits))
    try:
        if case.scene.during is None:
            finish = run(command, box, profile.limits, stop)
            escaped = _escaped(before, box, case.scene)
        else:
            finish, paths, unseen, is_done = run_with_tampering(command, box, profile.limits, case.scene.during, stop)
            escaped = _touched(paths)
            unproved = None if escaped else _unproved(case, profile, finish, unseen, is_done=is_done)
            if unproved is not None:
                return Judgement(case, *unproved, finish, command)
    except CannotHoldError as error:
        return Judgement(case, UNSUPPORTED, (Difference("the machine", "what the case needs", str(error)),))
    except OSError as error:
        return Judgement(case, VOID, (Difference("the program", "started and ended", str(error)),))
    judge = _Judge(case, profile, finish, box, snapshot, out_before, strict_reasons)
    verdict, differences = judge.verdict(escaped)
    more = len(differences) - MAX_DIFFERENCES
    if more > 0:
        differences = [*differences[:MAX_DIFFERENCES], Difference("and more", "nothing", f"{more} more differences")]
    return Judgement(case, verdict, tuple(each.cut() for each in differences), finish, command, judge.unmapped)


def _machine_lacks(case: Case, folder: Path) -> str | None:
    """Return what this machine lacks for a case, or None."""
    if any(planted.kind == "device" for planted in case.scene.planted.values()) and not can_make_devices(folder):
        return "this machine does not permit making a device node"
    if case.scene.during is not None:
        try:
            require_machine()
        except CannotHoldError as error:
            return str(error)
    return None


def _unproved(
    case: Case, profile: Profile, finish: Finish, unseen: list[str], *, is_done: bool
) -> tuple[str, tuple[Difference, ...]] | None:
    """Return the verdict on a run in which the tampering did not happen or was not observable, or None."""
    if unseen:
        return VOID, (Difference("the program", "observable", f"not observable: {unseen[0]}"),)
    if is_done or case.scene.during is None:
        return None
    if ending := bad_ending(finish, profile):
        return ending[0], (ending[1],)
    when = case.scene.during.when.words
    if finish.exit_status in profile.refused:
        words = f"refused before this moment: {first_line(finish.stderr)}"
        return FAIL, (Difference(when, "a run that gets so far", words),)
    return UNSUPPORTED, (Difference("the program", "what the case needs", f"it has no such moment: {when}"),)


def _escaped(before: Look, box: Sandbox, scene: Scene) -> list[Difference]:
    """Return what a run touched outside OUT."""
    try:
        return _touched(touched(before, box.look_outside(), scene.hard_link_count))
    except OSError as error:
        return [Difference("files outside OUT", "unchanged", str(error))]


def _touched(paths: Iterable[str]) -> list[Difference]:
    return [Difference(f"{path}, outside OUT", *TOUCHED, clause="TREE-10") for path in paths]


PLACEHOLDER: Final = re.compile(r"\{(?:snapshot|out|db)\}")


def command_of(profile: Profile, scene: Scene, box: Sandbox, snapshot: Path) -> tuple[str, ...]:
    """Return the command that runs a program on a scene."""
    words = {"{snapshot}": str(snapshot), "{out}": str(box.out), "{db}": str(scene.database)}
    command: list[str] = []
    for word in profile.command if scene.verb == DECODE else profile.verify:
        if word == "{options}":
            for option, value in scene.options.items():
                command += [each.replace("{value}", value) for each in profile.options[option]]
        else:
            command.append(PLACEHOLDER.sub(lambda match: words[match[0]], word))
    return tuple(command)


def bad_ending(finish: Finish, profile: Profile) -> tuple[str, Difference] | None:
    """Return the verdict on a run that did not end with a documented exit status, or None."""
    if finish.over_limit:
        return LIMIT, Difference("the run", "within its limits", finish.over_limit, clause="CONV-8")
    if finish.hung:
        found = f"timed out after {profile.limits.seconds:g} s of processor time, or of waiting"
        return HANG, Difference("the run", "an end", found, clause="CONV-8")
    if finish.left_running:
        return FAIL, Difference("processes still running at its end", "none", str(finish.left_running))
    if finish.signal is not None:
        return CRASH, Difference("the run", "an exit status", f"ended by signal {finish.signal}")
    if PANIC.search(finish.stderr) or PANIC.search(finish.stdout):
        return CRASH, Difference("the run", "no panic or traceback", first_line(finish.stderr or finish.stdout))
    if finish.exit_status not in profile.documented:
        words = f"one of its profile: {ranges(profile.documented)}"
        return CRASH, Difference("exit status", words, str(finish.exit_status))
    return None


class _Judge:
    """Judges one run, whose sandbox still exists."""

    def __init__(
        self,
        case: Case,
        profile: Profile,
        finish: Finish,
        box: Sandbox,
        snapshot: Path,
        out_before: Look,
        strict_reasons: bool,
    ) -> None:
        self._case = case
        self._profile = profile
        self._finish = finish
        self._box = box
        self._snapshot = snapshot
        self._out_before = out_before
        self._strict_reasons = strict_reasons
        self.unmapped: str | None = None

    def verdict(self, escaped: list[Difference]) -> tuple[str, list[Difference]]:
        """Return the verdict and the differences; the most severe verdict wins."""
        finish, profile = self._finish, self._profile
        if escaped:
            return ESCAPED, escaped
        if fed := self._box.fed_readers():
            return ESCAPED, [Difference(path, "nothing written to it", "written to", clause="TREE-30") for path in fed]
        if ending := bad_ending(finish, profile):
            verdict, difference = ending
            return verdict, [difference]
        try:
            judged = [self._judge(expected) for expected in self._case.allowed]
        except OSError as error:
            return FAIL, [Difference("OUT", "a tree that its owner can access", str(error), clause="TREE-6")]
        # Of several permitted outcomes the nearest is reported: one that passes, else the one with fewest differences.
        return min(judged, key=lambda each: (each[0] != PASS, len(each[1])))

    def _judge(self, expected: Expected) -> tuple[str, list[Difference]]:
        status = self._finish.exit_status
        if expected.outcome == REFUSED:
            verdict, differences = self._judge_refusal(expected)
        elif status not in self._profile.exits[expected.outcome]:
            return FAIL, [self._other_outcome(expected.outcome)]
        else:
            differences = self._differences(expected)
            verdict = FAIL if differences else PASS
        if expected.exit_status not in (None, status):
            return FAIL, [Difference("exit status", str(expected.exit_status), str(status)), *differences]
        return verdict, differences

    def _other_outcome(self, expected: str) -> Difference:
        finish = self._finish
        if finish.exit_status in self._profile.refused:
            return Difference("outcome", expected, f"refused: {first_line(finish.stderr)}")
        return Difference("outcome", expected, f"exit status {finish.exit_status}")

    def _judge_refusal(self, expected: Expected) -> tuple[str, list[Difference]]:
        finish, profile, out = self._finish, self._profile, self._box.out
        words = f"refused: {expected.fault} [{expected.clause}]"
        if finish.exit_status not in profile.refused:
            return FAIL, [Difference("outcome", words, f"accepted, exit status {finish.exit_status}")]
        after = look(out)
        left = [name.decode() for name in SEAL if name.decode() in after]
        if expected.out == UNTOUCHED:
            if after != self._out_before:
                found = "absent" if not after else ", ".join(left) or "changed"
                return FAIL, [Difference("OUT after a refusal", "unchanged", found)]
        elif left:
            return FAIL, [Difference("OUT after a refusal", "neither MANIFEST.json nor CHECKSUMS", " and ".join(left))]
        reason = profile.reason_in(finish.stderr)
        if reason is None:
            self.unmapped = first_line(finish.stderr)
            if self._strict_reasons:
                return WRONG_REASON, [Difference("reason", words, f"not mapped by the profile: {self.unmapped}")]
        else:
            path = None if expected.path is None else self._path(expected.path)
            reasons = [
                Difference(name, str(wanted), NOT_REPORTED if found in ("", -1) else str(found))
                for name, wanted, found in (
                    ("fault", expected.fault, reason.fault),
                    ("clause", expected.clause, reason.clause),
                    ("offset", expected.offset, reason.offset),
                    ("path", path, reason.path),
                )
                if wanted not in (None, "") and found is not None and wanted != found
            ]
            if reasons:
                return WRONG_REASON, reasons
        # Another class of refusal is another reason, if the profile distinguishes them.
        statuses = profile.statuses_of_fault(expected.fault)
        if finish.exit_status not in statuses:
            return WRONG_REASON, [
                Difference("exit status", f"{ranges(statuses)} for {expected.fault}", str(finish.exit_status))
            ]
        return PASS, []

    def _path(self, path: bytes) -> str:
        if path == b"{snapshot}":
            return str(self._snapshot)
        return str(self._box.root / "work" / os.fsdecode(path))

    def _differences(self, expected: Expected) -> list[Difference]:
        finish, profile, out = self._finish, self._profile, self._box.out
        if expected.outcome == WHOLE or expected.outcome == FINDINGS:
            return [*self._differences_of_findings(expected), *self._changed_by_a_verifier()]
        try:
            differences = [
                *differences_of_tree(expected, out, self._out_before, self._case.scene),
                *differences_of_seal(out),
            ]
            differences += differences_of_manifest(expected, out, self._box.root / "in")
        except OSError as error:
            return [Difference("OUT", "a tree that its owner can read", str(error))]
        if profile.warnings:
            found = profile.warnings_in(finish.stdout + "\n" + finish.stderr)
            found = counted_warnings(found, OUTCOMES_TABLE["warnings"], expected.strict)
            differences += [
                Difference(f"warning {name}", str(expected.warnings.get(name, 0)), str(found.get(name, 0)))
                for name in sorted(expected.warnings.keys() | found.keys())
                if expected.warnings.get(name, 0) != found.get(name, 0)
            ]
        return differences

    def _differences_of_findings(self, expected: Expected) -> list[Difference]:
        if not self._profile.findings:
            return []
        found = self._profile.findings_in(self._finish.stdout + "\n" + self._finish.stderr)
        return [
            Difference(
                f"finding {name}",
                ", ".join(expected.findings.get(name, ["none"])),
                ", ".join(found.get(name, ["none"])),
            )
            for name in sorted(expected.findings.keys() | found.keys())
            if expected.findings.get(name, []) != found.get(name, [])
        ]

    def _changed_by_a_verifier(self) -> Iterable[Difference]:
        if look(self._box.out) != self._out_before:
            yield Difference("OUT after verifying", *TOUCHED)


def ranges(numbers: Iterable[int]) -> str:
    """Render numbers as ranges: 0, 3 to 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join(" to ".join(map(str, run)) for run in runs)


def first_line(text: str) -> str:
    """Return the first line of a text that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "(no text)")
