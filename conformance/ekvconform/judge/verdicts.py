"""Runs a program on a case and gives a verdict.

    verdict       meaning
    ------------  ---------------------------------------------------------------
    PASS          as expected in all that the case is about
    FAIL          accepted what must be refused, refused what must be accepted,
                  another tree, or another aspect that the case is about
    UNTOLD        refused as expected, without a word
    WRONG_REASON  refused, but for another fault than the case's, or at another place
    CRASH         a signal, a panic, a traceback, an undocumented exit status
    HANG          timed out
    LIMIT         too much memory or output
    ESCAPED       something other than OUT and TMPDIR was touched
    UNSUPPORTED   the case needs what the profile says the program lacks
    VOID          the run could not be prepared; never a pass

The judge examines the tree itself. The output of the program decides only about the
reason of a refusal, the warnings, and the findings of a verifier. It looks at all
aspects of a run (`aspects`); what differs in one that the case is not about changes
no verdict, and is a deviation.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ekvexplain.fields import iter_snapshot_fields, piece_at, render_field

from ekvconform.cases.contents import DELETED, EXPIRED, FUTURE, HISTORY, OPERATIONAL, content_at, contents_of_scene
from ekvconform.cases.data_files import OUTCOMES_TABLE
from ekvconform.cases.golden_cases import DECODE, FINDINGS, OUTCOMES, REFUSED, UNTOUCHED, WHOLE, Case, Expected, Scene
from ekvconform.cases.limits import Limits
from ekvconform.cases.tolerances import counted_warnings
from ekvconform.judge.aspects import (
    ASPECTS,
    ENDING,
    FILES,
    FINDING,
    LEFTOVERS,
    OUTCOME,
    OUTSIDE,
    REASON,
    STATUS,
    WARNINGS,
    WORDS,
    is_about,
)
from ekvconform.judge.collection_explanations import is_shadowed
from ekvconform.judge.differences import SCENE, Difference
from ekvconform.judge.tree_comparison import (
    SEAL_NAMES,
    differences_of_manifest,
    differences_of_seal,
    differences_of_tree,
)
from ekvconform.run.looks import Look, look, shown_path, touched
from ekvconform.run.namespaces import mount_memory
from ekvconform.run.processes import drop_capabilities
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import Finish, Sandbox, can_make_devices, make_sandbox, run_program
from ekvconform.run.seccomp import CannotHoldError, require_machine
from ekvconform.run.tampering import run_with_tampering
from ekvconform.run.watching import Watch

PASS: Final = "PASS"
FAIL: Final = "FAIL"
UNTOLD: Final = "UNTOLD"
WRONG_REASON: Final = "WRONG_REASON"
CRASH: Final = "CRASH"
HANG: Final = "HANG"
LIMIT: Final = "LIMIT"
ESCAPED: Final = "ESCAPED"
UNSUPPORTED: Final = "UNSUPPORTED"
VOID: Final = "VOID"
VERDICTS: Final = (PASS, FAIL, UNTOLD, WRONG_REASON, CRASH, HANG, LIMIT, ESCAPED, UNSUPPORTED, VOID)

PANIC: Final = re.compile(
    r"^(Traceback \(most recent call last\)|panic: |goroutine [0-9]+ \[|thread '.*'( \([0-9]+\))? panicked"
    r"|thread [0-9]+ panic: |Exception in thread |Unhandled exception"
    r"|.*\bERROR: [A-Za-z]+Sanitizer|.*: runtime error: )",
    re.MULTILINE,
)
"""What Python, Go, Rust, Zig, Java, .NET and the sanitizers of C print when a program crashes."""
MAX_ALIKE: Final = 5
"""Differences of one form that are reported of a case."""
MAX_STABLE: Final = 100
"""Characters of a message that name a refusal."""
LARGEST_EXPLAINED: Final = 100_000
"""Largest snapshot, in bytes, whose bytes are shown where a reason differs."""
VERDICT_OF_ONE: Final = {WORDS: UNTOLD, REASON: WRONG_REASON}
"""Aspect = the verdict on a case that fails for it alone, if it is another one than FAIL."""
THE_MACHINE: Final = "the machine"
"""What a case lacks that is UNSUPPORTED whatever the program."""
NOT_REPORTED: Final = "not reported"
NOT_JUDGED: Final = {
    HISTORY: ("the value of an older version", "VISI-11"), DELETED: ("the value of a deleted key", "VISI-12"),
    EXPIRED: ("the value of an expired key", "VISI-13"), OPERATIONAL: ("an operational entry", "VISI-9"),
    FUTURE: ("the value of a version above the last commit", "VISI-14"),
}  # fmt: skip
"""Fate of an entry = what a refusal that names it is for, and the clause that forbids it."""
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
    refusal: Difference | None = None
    """What a refusal would be if it had not been expected: the program's own reason may explain another one's."""

    @property
    def own(self) -> tuple[Difference, ...]:
        """Differences that the case is about."""
        return tuple(each for each in self.differences if is_about(self.case, each))

    @property
    def deviations(self) -> tuple[Difference, ...]:
        """All other differences."""
        return tuple(each for each in self.differences if not is_about(self.case, each))


def judge_case(
    case: Case,
    profile: Profile,
    directory: Path,
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
        return Judgement(case, UNSUPPORTED, (Difference(SCENE, "the program", "what the case needs", lack),))
    try:
        if lack := _machine_lacks(case, directory):
            return _unsupported(case, lack)
        box = make_sandbox(directory, case.scene)
        if lack := _small_disk_lacks(case, directory):
            return _unsupported(case, lack)
        snapshot = box.arrange(case.scene)
        if case.scene.is_for_the_unprivileged:
            drop_capabilities()
        command = command_of(profile, case.scene, box, snapshot)
        before, out_before = box.look_outside(), look(box.out)
        watch = Watch(box.directories_outside())
    except OSError as error:
        return Judgement(case, VOID, (Difference(SCENE, "the scene", "prepared", f"not prepared: {error}"),))
    profile = replace(profile, limits=profile.limits.but(case.limits))
    try:
        if case.scene.during is None:
            finish = run(command, box, profile.limits, stop)
            escaped = _escaped(before, box, case.scene, watch)
        else:
            watch.ended()  # what tampers makes names too
            finish, paths, unseen, is_done = run_with_tampering(command, box, profile.limits, case.scene.during, stop)
            escaped = _touched(paths)
            unproved = None if escaped else _unproved(case, profile, finish, unseen, is_done=is_done)
            if unproved is not None:
                return Judgement(case, *unproved, finish, command)
    except CannotHoldError as error:
        return _unsupported(case, str(error))
    except OSError as error:
        return Judgement(case, VOID, (Difference(SCENE, "the program", "started and ended", str(error)),))
    judge = _Judge(case, profile, finish, box, snapshot, out_before, strict_reasons)
    verdict, differences = judge.verdict(escaped)
    distinct = tuple(_iter_distinct(differences))
    return Judgement(case, verdict, distinct, finish, command, judge.unmapped, judge.refusal())


def _iter_distinct(differences: Iterable[Difference]) -> Iterator[Difference]:
    """Yield differences, `MAX_ALIKE` of each form; the last one of a form says how many there are."""
    by_form: dict[tuple[str, str], list[Difference]] = {}
    for each in differences:
        by_form.setdefault((each.aspect, each.form), []).append(each.cut())
    for alike in by_form.values():
        yield from alike[: MAX_ALIKE - 1]
        if len(alike) > MAX_ALIKE:
            last = alike[MAX_ALIKE - 1]
            yield replace(last, found=f"{last.found} (and {len(alike) - MAX_ALIKE} more like this)")
        else:
            yield from alike[MAX_ALIKE - 1 :]


def _machine_lacks(case: Case, directory: Path) -> str | None:
    """Return what this machine lacks for a case, or None."""
    if any(planted.kind == "device" for planted in case.scene.planted.values()) and not can_make_devices(directory):
        return "this machine does not permit making a device node"
    if case.scene.during is not None:
        try:
            require_machine()
        except CannotHoldError as error:
            return str(error)
    return None


def _small_disk_lacks(case: Case, directory: Path) -> str | None:
    """Mount the small disk of a case; return what this machine lacks for it, or None."""
    if case.scene.disk_bytes is not None:
        try:
            mount_memory(directory / "work", f"size={case.scene.disk_bytes}")
        except OSError as error:
            return f"no small disk: {error}"
    return None


def _unsupported(case: Case, lack: str) -> Judgement:
    return Judgement(case, UNSUPPORTED, (Difference(SCENE, THE_MACHINE, "what the case needs", lack),))


def _unproved(
    case: Case, profile: Profile, finish: Finish, unseen: list[str], *, is_done: bool
) -> tuple[str, tuple[Difference, ...]] | None:
    """Return the verdict on a run in which the tampering did not happen or was not observable, or None."""
    if unseen:
        return VOID, (Difference(SCENE, "the program", "observable", f"not observable: {unseen[0]}"),)
    if is_done or case.scene.during is None:
        return None
    if ending := bad_ending(finish, profile):
        return ending[0], (ending[1],)
    when = case.scene.during.when.words
    if finish.exit_status in profile.refused:
        words = f"refused before this moment: {first_line(finish.stderr)}"
        form = f"refused before a moment: {stable(words)}"
        return FAIL, (Difference(OUTCOME, when, "a run that gets so far", words, form),)
    return UNSUPPORTED, (Difference(SCENE, "the program", "what the case needs", f"it has no such moment: {when}"),)


def _escaped(before: Look, box: Sandbox, scene: Scene, watch: Watch) -> list[Difference]:
    """Return what a run touched outside OUT."""
    try:
        paths = touched(before, box.look_outside(), scene.hard_link_count)
        appeared = [shown_path(os.path.relpath(name, os.fsencode(box.root))) for name in watch.ended()]
    except OSError as error:
        return [Difference(OUTSIDE, "files outside OUT", "unchanged", str(error), "not readable", "SAFE-5")]
    own = (os.path.relpath(box.real_out, box.root), "tmp")
    passing = [path for path in appeared if path not in (*paths, *own)]
    return _touched(paths) + [
        Difference(OUTSIDE, f"{path}, outside OUT", "never there", "made and removed", "made and removed", "SAFE-5")
        for path in passing
    ]


def _touched(paths: Iterable[str]) -> list[Difference]:
    return [Difference(OUTSIDE, f"{path}, outside OUT", *TOUCHED, "touched", "SAFE-5") for path in paths]


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


def bad_ending(finish: Finish, profile: Profile, verb: str = DECODE) -> tuple[str, Difference] | None:
    """Return the verdict on a run that did not end with a documented exit status, or None."""
    if finish.over_limit:
        form = f"over its limit: {stable(finish.over_limit)}"
        return LIMIT, Difference(ENDING, "the run", "within its limits", finish.over_limit, form, "CONV-9")
    if finish.hung:
        found = f"timed out after {profile.limits.seconds:g} s of processor time, or of waiting"
        return HANG, Difference(ENDING, "the run", "an end", found, "timed out", "CONV-9")
    if finish.left_running:
        place, count = "processes still running at its end", str(finish.left_running)
        return FAIL, Difference(ENDING, place, "none", count, place, "CONV-9")
    if finish.signal is not None:
        found = f"ended by signal {finish.signal}"
        return CRASH, Difference(ENDING, "the run", "an exit status", found, found, "CONV-9")
    if PANIC.search(finish.stderr) or PANIC.search(finish.stdout):
        found = first_line(finish.stderr or finish.stdout)
        return CRASH, Difference(ENDING, "the run", "no panic or traceback", found, "a panic or traceback", "CONV-9")
    if finish.exit_status not in profile.documented(verb):
        words, found = f"one of its profile: {ranges(profile.documented(verb))}", str(finish.exit_status)
        return CRASH, Difference(ENDING, "exit status", words, found, f"exit status {found}", "OUTC-7")
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
        """Return the verdict and all differences; the most severe verdict wins."""
        for path in self._box.fed_readers():
            escaped.append(Difference(OUTSIDE, path, "nothing written to it", "written to", "written to", "SAFE-13"))
        if ending := bad_ending(self._finish, self._profile, self._case.scene.verb):
            verdict, difference = ending
            return (ESCAPED, [*escaped, difference]) if escaped else (verdict, [difference])
        judged = [[*escaped, *self._compared(self._differences_from(expected))] for expected in self._case.allowed]
        # Of several permitted outcomes the nearest is reported.
        nearest = min(judged, key=lambda each: (sum(is_about(self._case, one) for one in each), len(each)))
        nearest.sort(key=lambda each: (not is_about(self._case, each), ASPECTS.index(each.aspect)))
        return self._verdict_of({each.aspect for each in nearest if is_about(self._case, each)}), nearest

    def _compared(self, differences: Iterable[Difference]) -> list[Difference]:
        return [each for each in differences if self._profile.is_compared(each.aspect, each.place)]

    @staticmethod
    def _verdict_of(own: set[str]) -> str:
        if OUTSIDE in own:
            return ESCAPED
        if not own:
            return PASS
        return VERDICT_OF_ONE.get(next(iter(own)), FAIL) if len(own) == 1 else FAIL

    def _differences_from(self, expected: Expected) -> list[Difference]:
        """Return the differences of all aspects from one permitted outcome."""
        status, differences = self._finish.exit_status, []
        if expected.exit_status not in (None, status):
            words = f"{status} for {expected.exit_status}"
            differences.append(Difference(STATUS, "exit status", str(expected.exit_status), str(status), words))
        if expected.outcome == REFUSED:
            return [*differences, *self._differences_of_refusal(expected)]
        if status not in self._profile.exits[expected.outcome]:
            differences.append(self._other_outcome(expected.outcome))
            if status in self._profile.refused:
                return differences
        if expected.outcome in (WHOLE, FINDINGS):
            return [*differences, *self._differences_of_findings(expected), *self._changed_by_a_verifier()]
        return [*differences, *self._differences_of_dump(expected)]

    def _other_outcome(self, expected: str) -> Difference:
        finish, profile = self._finish, self._profile
        if refusal := self.refusal():
            return replace(refusal, expected=expected)
        names = OUTCOMES[self._case.scene.verb]
        found = next((name for name in names if finish.exit_status in profile.exits[name]), "another")
        words = f"{found} for {expected}"
        return Difference(OUTCOME, "outcome", expected, f"exit status {finish.exit_status}", words, "OUTC-7")

    def refusal(self) -> Difference | None:
        """Return the difference that a refusal is, where none is expected; None if the program accepted.

        Its form is the fault, or the message as far as that is the same in every run. Where the program names an
        entry that it should not have judged at all, this is what it does wrong.
        """
        finish, profile = self._finish, self._profile
        if finish.exit_status not in profile.refused:
            return None
        message = first_line(finish.stderr)
        reason = profile.reason_in(finish.stderr)
        if reason is None:
            form = stable(message.replace(str(self._box.root), ""))
        else:
            form = f"{reason.fault} [{reason.clause}]" if reason.clause else reason.fault
        clause = ""
        if reason is not None and reason.offset is not None and reason.offset > 0:
            contents = contents_of_scene(self._case.scene)
            content = content_at(contents, reason.offset)
            if content is not None and content.fate in NOT_JUDGED:
                words, clause = NOT_JUDGED[content.fate]
                form = f"for {words}"
            elif content is not None and is_shadowed(content, contents):
                form, clause = "for a shadowed record", "TYPE-5"
        return Difference(OUTCOME, "outcome", "", f"refused: {message}", f"refused: {form}", clause)

    def _differences_of_refusal(self, expected: Expected) -> list[Difference]:
        finish, profile = self._finish, self._profile
        words = f"refused: {expected.fault} [{expected.clause}]"
        differences = self._leftovers(expected)
        if finish.exit_status not in profile.refused:
            found, form = f"accepted, exit status {finish.exit_status}", f"accepted: {expected.fault}"
            return [Difference(OUTCOME, "outcome", words, found, form, expected.clause)]
        if not (finish.stderr + finish.stdout).strip():
            words = "refused without a word"
            return [*differences, Difference(WORDS, "message", "what is wrong, and where", "nothing", words, "OUTC-1")]
        reason = profile.reason_in(finish.stderr)
        if reason is None:
            self.unmapped = first_line(finish.stderr)
            if self._strict_reasons:
                found = f"not mapped by the profile: {self.unmapped}"
                return [*differences, Difference(REASON, "reason", words, found, "not mapped by the profile")]
        else:
            path = None if expected.path is None else self._path(expected.path)
            for name, wanted, other in (
                ("fault", expected.fault, reason.fault),
                ("clause", expected.clause, reason.clause),
                ("offset", expected.offset, reason.offset),
                ("path", path, reason.path),
            ):
                if wanted not in (None, "") and other is not None and wanted != other:
                    found = NOT_REPORTED if other in ("", -1) else str(other)
                    form = _form_of_reason(name, wanted, other, found)
                    bytes_ = () if name == "path" else self._bytes_at(expected.offset)
                    differences.append(Difference(REASON, name, str(wanted), found, form, expected.clause, bytes_))
                    if name == "fault":
                        break  # another fault has another clause and another place
        # Another class of refusal is another reason, if the profile distinguishes them.
        statuses = profile.statuses_of_fault(expected.fault)
        if finish.exit_status not in statuses:
            wanted, found = f"{ranges(statuses)} for {expected.fault}", str(finish.exit_status)
            form = f"exit status {found} for {expected.fault}"
            differences.append(Difference(REASON, "exit status", wanted, found, form, "OUTC-7"))
        return differences

    def _bytes_at(self, offset: int | None) -> tuple[str, ...]:
        """Return the bytes around an offset of the snapshot, annotated."""
        snapshot = self._case.scene.snapshot
        if offset is None or snapshot is None or len(snapshot) > LARGEST_EXPLAINED:
            return ()
        piece = piece_at(iter_snapshot_fields(snapshot), offset)
        return tuple(line for field in piece for line in render_field(field, offset))

    def _leftovers(self, expected: Expected) -> list[Difference]:
        """Compare OUT after a refusal with OUT before the run."""
        before, after = self._out_before, look(self._box.out)
        left = [name.decode() for name in SEAL_NAMES if name.decode() in after]
        if expected.out == UNTOUCHED:
            place, found = "OUT after a refusal", "absent" if not after else ", ".join(left) or "changed"
            if any(after.get(path) != seen for path, seen in before.items()):
                return [Difference(FILES, place, "unchanged", found, "what lay in OUT was changed", "SAFE-4")]
            if not before and after:
                return [
                    Difference(LEFTOVERS, place, "absent", ", ".join(left) or "created", "OUT was created", "SAFE-4")
                ]
            clause = "INTO-1" if expected.fault == "unsafe-path" else "SAFE-4"
            form = "files were added to OUT"
            return [Difference(LEFTOVERS, place, "unchanged", found, form, clause)] if after != before else []
        # Only a regular file seals a dump; another process may have put anything else there.
        files = [name for name in left if stat.S_ISREG(after[name].kind)]
        found = " and ".join(files)
        words = "neither MANIFEST.json nor CHECKSUMS"
        return [Difference(LEFTOVERS, "OUT after a refusal", words, found, f"{found} left", "SAFE-27")] if files else []

    def _path(self, path: bytes) -> str:
        if path == b"{snapshot}":
            return str(self._snapshot)
        return str(self._box.root / "work" / os.fsdecode(path))

    def _differences_of_dump(self, expected: Expected) -> list[Difference]:
        out = self._box.out
        try:
            differences = [
                *differences_of_tree(expected, out, self._out_before, self._case.scene),
                *differences_of_seal(out),
                *differences_of_manifest(expected, out, self._box.root / "in"),
            ]
        except OSError as error:
            words = "a tree that its owner can access"
            return [Difference(OUTCOME, "OUT", words, str(error), f"not {words}", "TREE-8")]
        return [*differences, *self._differences_of_warnings(expected)]

    def _differences_of_warnings(self, expected: Expected) -> Iterable[Difference]:
        if not self._profile.warnings:
            return
        table = OUTCOMES_TABLE["warnings"]
        found = self._profile.warnings_in(self._finish.stdout + "\n" + self._finish.stderr)
        found = counted_warnings(found, table, expected.strict)
        for name in sorted(expected.warnings.keys() | found.keys()):
            wanted, count = expected.warnings.get(name, 0), found.get(name, 0)
            if wanted != count:
                words = "missing" if not count else "given" if not wanted else "with another count"
                clause = table[name]["clause"] if name in table else "COMP-3"
                yield Difference(WARNINGS, f"warning {name}", str(wanted), str(count), f"{name}: {words}", clause)

    def _differences_of_findings(self, expected: Expected) -> list[Difference]:
        if not self._profile.findings:
            return []
        found = self._profile.findings_in(self._finish.stdout + "\n" + self._finish.stderr)
        differences = []
        for name in sorted(expected.findings.keys() | found.keys()):
            wanted, others = expected.findings.get(name, []), found.get(name, [])
            if wanted != others:
                words = "missing" if not others else "reported" if not wanted else "at other paths"
                text, other = (", ".join(each or ["none"]) for each in (wanted, others))
                differences.append(Difference(FINDING, f"finding {name}", text, other, f"{name}: {words}"))
        return differences

    def _changed_by_a_verifier(self) -> Iterable[Difference]:
        if look(self._box.out) != self._out_before:
            yield Difference(FILES, "OUT after verifying", *TOUCHED, "OUT was changed by verifying")


def _form_of_reason(name: str, wanted: str | int, other: str | int, found: str) -> str:
    """Name the difference of one part of a reason, without numbers and paths of the case."""
    if found == NOT_REPORTED:
        return f"{name} {NOT_REPORTED}"
    if isinstance(wanted, int) and isinstance(other, int):
        return f"{name} is {'greater' if other > wanted else 'smaller'} by {abs(other - wanted)}"
    return "another path" if name == "path" else f"{name} {found} for {wanted}"


def stable(message: str) -> str:
    """Replace numbers, quoted texts and paths in a message by `..`, so that it is the same in every run."""
    message = re.sub(
        r"\"[^\"]*\"|'[^']*'|(?<![\w.])/[^\s:,;]*|\b0x[0-9A-Fa-f]+\b|\b[0-9a-f]*[0-9][0-9a-f]*\b", "..", message
    )
    message = " ".join(message.split())
    return message if len(message) <= MAX_STABLE else message[:MAX_STABLE] + ".."


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
