"""What came of a case.

    verdict       meaning
    ------------  ---------------------------------------------------------------
    PASS          as expected
    FAIL          accepted what must be refused, refused what must be accepted,
                  another tree, other warnings, or a seal behind a refusal
    WRONG_REASON  refused, but for another fault than the case's, or elsewhere
    CRASH         a signal, a panic, a traceback, an exit status that it does not have
    HANG          not done in time
    LIMIT         too much memory or output
    ESCAPED       something but OUT and TMPDIR was touched
    UNSUPPORTED   the case needs what the profile says the program lacks
    VOID          the scene could not be set; never a pass

The tree is looked at by us; what the program says about itself decides nothing but
the reason of a refusal, the warnings, and what a verifier found.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import ABSENT, DECODE, FINDINGS, REFUSED, UNTOUCHED, WHOLE, Case, Expected, Scene
from ekvconform.differences import Difference, difference_of_bytes, difference_of_lines, shown
from ekvconform.profiles import OUTCOMES_TABLE, Profile
from ekvconform.sandbox import Finish, Look, Sandbox, look, run_program, sandbox, touched
from ekvconform.tolerances import counted_warnings, members_fit, mode_fits, same_file

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
    r"^(Traceback \(most recent call last\)|panic: |thread '.*' panicked|fatal error: |goroutine [0-9]+ \[)",
    re.MULTILINE,
)
MANIFEST_NAME: Final = b"MANIFEST.json"
CHECKSUMS_NAME: Final = b"CHECKSUMS"
SEAL: Final = (MANIFEST_NAME, CHECKSUMS_NAME)
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o755
MANIFEST_MEMBERS: Final = (
    "format_version", "phase", "elastickv_version", "cluster_id", "snapshot_index", "last_commit_ts", "wall_time_iso",
    "source", "live", "adapters", "exclusions", "checksum_algorithm", "checksum_format", "encoded_filename_charset",
    "key_segment_max_bytes", "s3_meta_suffix", "s3_collision_strategy", "dynamodb_layout", "outcome",
)  # fmt: skip
"""In the order of MANI's table."""
OUTCOME_MEMBERS: Final = ("database", "complete", "partial_reasons", "warnings", "counters", "earlier")
"""In the order of MANI-9."""
TOUCHED: Final = ("as it was", "touched, made or removed")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one case, and why."""

    case: Case
    verdict: str
    differences: tuple[Difference, ...] = ()
    finish: Finish | None = None
    command: tuple[str, ...] = field(default=())
    unmapped: str | None = None
    """The text of a refusal whose reason the profile does not map."""


def judge_case(case: Case, profile: Profile, *, strict_reasons: bool = False) -> Judgement:
    """Run a program on one case and judge it. With `strict_reasons` a refusal has to name its fault."""
    if lack := profile.lacks(case):
        return Judgement(case, UNSUPPORTED, (Difference("the program", "what the case needs", lack),))
    try:
        with sandbox(case.scene) as box:
            snapshot = box.arrange(case.scene)
            command = command_of(profile, case.scene, box, snapshot)
            before, out_before = box.look_outside(), look(box.out)
            finish = run_program(command, box, profile.limits)
            judge = _Judge(case, profile, finish, box, snapshot, out_before, strict_reasons)
            verdict, differences = judge.verdict(before)
            return Judgement(case, verdict, tuple(differences), finish, command, judge.unmapped)
    except OSError as error:
        return Judgement(case, VOID, (Difference("the scene", "set", f"not set: {error}"),))


def command_of(profile: Profile, scene: Scene, box: Sandbox, snapshot: Path) -> tuple[str, ...]:
    """Return the words that run a program on a scene."""
    words = {"{snapshot}": str(snapshot), "{out}": str(box.out), "{db}": str(scene.database)}
    command: list[str] = []
    for word in profile.command if scene.verb == DECODE else profile.verify:
        if word == "{options}":
            for option, value in scene.options.items():
                command += [each.replace("{value}", value) for each in profile.options[option]]
        else:
            for placeholder, value in words.items():
                word = word.replace(placeholder, value)
            command.append(word)
    return tuple(command)


class _Judge:
    """Judges one run, whose traces still lie in its sandbox."""

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
        self._had_output = case.scene.has_output
        self.unmapped: str | None = None

    def verdict(self, before: Look) -> tuple[str, list[Difference]]:
        """Return the verdict and what is different; the worst first."""
        finish, profile = self._finish, self._profile
        after = self._box.look_outside()
        if paths := touched(before, after, self._case.scene):
            return ESCAPED, [Difference(f"{path}, outside of OUT", *TOUCHED) for path in paths]
        if finish.over_limit:
            return LIMIT, [Difference("the run", "within its limits", finish.over_limit)]
        if finish.hung:
            return HANG, [Difference("the run", "an end", f"not done after {profile.limits.seconds:g} s")]
        if finish.left_running:
            return FAIL, [Difference("processes still running at its end", "none", str(finish.left_running))]
        if finish.signal is not None:
            return CRASH, [Difference("the run", "an exit status", f"ended by signal {finish.signal}")]
        if PANIC.search(finish.stderr) or PANIC.search(finish.stdout):
            return CRASH, [Difference("the run", "no panic or traceback", first_line(finish.stderr or finish.stdout))]
        if finish.exit_status not in profile.documented:
            return CRASH, [
                Difference(
                    "exit status", f"one of {sorted(profile.documented)}, by its profile", str(finish.exit_status)
                )
            ]
        judged = [self._judge(expected) for expected in self._case.allowed]
        # Of several that are allowed, the nearest is told: what passes, else what differs least.
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
        left = [name.decode() for name in SEAL if os.path.lexists(os.fsencode(out) + b"/" + name)]
        if expected.out == UNTOUCHED:
            if os.path.lexists(out) != self._had_output or look(out) != self._out_before:
                found = "absent" if not os.path.lexists(out) else ", ".join(left) or "something in it, or changed"
                return FAIL, [Difference("OUT after a refusal", "as it was", found)]
        elif left:
            return FAIL, [Difference("OUT after a refusal", "neither MANIFEST.json nor CHECKSUMS", " and ".join(left))]
        told = profile.told(finish.stderr)
        if told is None:
            self.unmapped = first_line(finish.stderr)
            if self._strict_reasons:
                return WRONG_REASON, [Difference("reason", words, f"not mapped by the profile: {self.unmapped}")]
        else:
            path = None if expected.path is None else self._path(expected.path)
            reasons = [
                Difference(name, str(wanted), str(found))
                for name, wanted, found in (
                    ("fault", expected.fault, told.fault),
                    ("clause", expected.clause, told.clause),
                    ("offset", expected.offset, told.offset),
                    ("path", path, told.path),
                )
                if wanted not in (None, "") and found is not None and wanted != found
            ]
            if reasons:
                return WRONG_REASON, reasons
        # Another class of refusal is another reason, where the profile tells them apart.
        statuses = profile.statuses_of_fault(expected.fault)
        if finish.exit_status not in statuses:
            return WRONG_REASON, [
                Difference("exit status", f"one of {sorted(statuses)} for {expected.fault}", str(finish.exit_status))
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
            differences = [*_differences_of_tree(expected, out, self._case.scene), *_differences_of_seal(out)]
            differences += _differences_of_manifest(expected, out, self._box.root / "in")
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


def _differences_of_tree(expected: Expected, out: Path, scene: Scene) -> list[Difference]:
    """Compare what lies in OUT, but for the seal, with what has to: paths, kinds, modes and bytes."""
    found: dict[bytes, bytes] = {}
    differences = []
    top = os.fsencode(out)
    for base, folders, files in os.walk(top):
        for name in sorted((*folders, *files)):
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            below = os.path.relpath(path, top)
            place = os.fsdecode(below)
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                differences.append(Difference(place, "a file or a folder", stat.filemode(mode)))
                continue
            if stat.S_ISREG(mode) and below not in SEAL:
                with open(path, "rb") as file:
                    found[below] = file.read()
            elif stat.S_ISDIR(mode) and not os.listdir(path):
                differences.append(Difference(place, "no folder without something in it", "an empty folder"))
            before = scene.planted.get(scene.out + b"/" + below)
            if before is not None and (before.kind == "folder" or before.data == found.get(below)):
                continue  # it was there before, with modes of its own
            right = FILE_MODE if stat.S_ISREG(mode) else FOLDER_MODE
            if not mode_fits(right, stat.S_IMODE(mode), expected.strict):
                differences.append(Difference(f"{place}, mode", f"{right:o}", f"{stat.S_IMODE(mode):o}"))
    for below in sorted(expected.tree.keys() | found.keys()):
        place = os.fsdecode(below)
        if below not in found:
            differences.append(Difference(place, shown(expected.tree[below]), "no such file"))
        elif below not in expected.tree:
            differences.append(Difference(place, "no such file", shown(found[below])))
        elif not same_file(below, expected.tree[below], found[below], expected.strict):
            compare = difference_of_lines if place.endswith(".jsonl") else difference_of_bytes
            differences.append(compare(place, expected.tree[below], found[below]))
    return differences


def _differences_of_seal(out: Path) -> list[Difference]:
    """Recompute CHECKSUMS from the tree, and see that MANIFEST.json is there."""
    top = os.fsencode(out)
    missing = [name for name in SEAL if not os.path.isfile(os.path.join(top, name))]
    if missing:
        return [Difference(name.decode(), "there", "missing") for name in missing]
    lines = []
    for base, _, files in os.walk(top):
        for name in files:
            path = os.path.join(base, name)
            below = os.path.relpath(path, top)
            if below != CHECKSUMS_NAME and stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    lines.append((below, hashlib.sha256(file.read()).hexdigest().encode()))
    expected = b"".join(checksum_line(path, sha256) for path, sha256 in sorted(lines))
    with open(os.path.join(top, CHECKSUMS_NAME), "rb") as file:
        found = file.read()
    return [] if found == expected else [difference_of_lines("CHECKSUMS", expected, found)]


def checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Write a line of CHECKSUMS. [SUMS-1] [SUMS-2]"""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != path else b"") + sha256 + b"  " + escaped + b"\n"


def _differences_of_manifest(expected: Expected, out: Path, folder: Path) -> list[Difference]:
    """Compare the members of MANIFEST.json that a case fixes."""
    path = out / MANIFEST_NAME.decode()
    if not path.is_file():
        return []  # said already
    text = path.read_bytes()
    try:
        manifest = json.loads(text)
    except ValueError as error:
        return [Difference("MANIFEST.json", "JSON", str(error))]
    differences = []
    for name, value in expected.manifest.items():
        wanted = value.replace("{folder}", str(folder)) if isinstance(value, str) else value
        found: Any = manifest
        for part in name.split("."):
            if isinstance(found, list):
                found = found[int(part)] if part.isdigit() and int(part) < len(found) else ABSENT
            else:
                found = found.get(part, ABSENT) if isinstance(found, dict) else ABSENT
        # Compared as JSON, since 1 and true are equal to Python.
        if json.dumps(found, sort_keys=True) != json.dumps(wanted, sort_keys=True):
            differences.append(Difference(f"MANIFEST.json, {name}", json.dumps(wanted), json.dumps(found)))
    if expected.canonical:
        differences += _differences_of_form(manifest, text, expected)
    return differences


def _differences_of_form(manifest: Any, text: bytes, expected: Expected) -> Iterable[Difference]:
    """Write MANIFEST.json anew, and compare. [MANI-1] [MANI-19]"""
    canonical = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    if text != canonical:
        yield difference_of_bytes("MANIFEST.json", canonical, text)
    for name, members in (("", MANIFEST_MEMBERS), ("outcome", OUTCOME_MEMBERS)):
        found = manifest.get(name) if name and isinstance(manifest, dict) else manifest
        if isinstance(found, dict) and not members_fit(members, found, expected.strict):
            wanted = ", ".join(each for each in members if each in found)
            yield Difference(f"MANIFEST.json, members {name}".rstrip(), wanted, ", ".join(found))


def first_line(text: str) -> str:
    """Return the first line of a text that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "(no text)")
