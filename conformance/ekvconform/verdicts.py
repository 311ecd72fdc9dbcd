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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import ABSENT, DECODE, FINDINGS, NULL, PRESENT, REFUSED, UNTOUCHED, WHOLE, Case, Expected, Scene
from ekvconform.differences import Difference, difference_of_bytes, difference_of_lines, shown
from ekvconform.profiles import KEYS_TABLE, OUTCOMES_TABLE, Profile
from ekvconform.sandbox import (
    Finish,
    Look,
    Sandbox,
    can_make_devices,
    drop_capabilities,
    iter_below,
    look,
    make_sandbox,
    read_regular,
    run_program,
    shown_path,
    touched,
)
from ekvconform.tolerances import TOLERANCES, counted_warnings, members_fit, mode_fits, same_file

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
"""What Python, Go, Rust, Zig, Java, .NET and the sanitizers of C print where a program has gone wrong."""
MAX_DIFFERENCES: Final = 20
"""Differences of one case that are told."""
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
OPEN_MEMBERS: Final = {
    "": MANIFEST_MEMBERS,
    "outcome": ("database", "complete", "partial_reasons", "warnings", "counters", "earlier"),
}
"""Objects that may have members of a decoder's own (TOLE-3), by their paths."""
CLOSED_MEMBERS: Final = {
    "source": ("fsm_path", "fsm_crc32c"),
    "adapters": ("dynamodb", "s3", "redis", "sqs"),
    "exclusions": (
        "include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records",
        "rename_s3_collisions",
    ),
    "outcome.partial_reasons.*": ("reason", "about", "count"),
    "outcome.warnings.*": ("name", "count", "about", "detail"),
    "outcome.counters": ("entries", "undecoded", "strings", "hlls", "ttls"),
    "outcome.counters.undecoded": tuple(KEYS_TABLE["undecoded"]),
    "outcome.earlier.*": ("database", "complete", "partial_reasons", "fsm_path"),
} | {f"outcome.counters.{name}": tuple(members) for name, members in OUTCOMES_TABLE["counters"].items()}  # fmt: skip
"""All others, in the order of MANI-6, MANI-9, MANI-24, OUTC-11, OUTC-12 and OUTC-16."""
WALL_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")
NOT_TOLD: Final = "not told"
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


def judge_case(
    case: Case, profile: Profile, folder: Path, *, strict_reasons: bool = False, stop: int | None = None
) -> Judgement:
    """Run a program on one case, in an empty folder, and judge it.

    With `strict_reasons` a refusal has to name its fault. `stop` is as for `run_program`.
    """
    if lack := profile.lacks(case):
        return Judgement(case, UNSUPPORTED, (Difference("the program", "what the case needs", lack),))
    try:
        if any(planted.kind == "device" for planted in case.scene.planted.values()) and not can_make_devices(folder):
            lack = "this machine lets nobody make a device node"
            return Judgement(case, UNSUPPORTED, (Difference("the machine", "what the case needs", lack),))
        box = make_sandbox(folder, case.scene)
        snapshot = box.arrange(case.scene)
        if case.scene.is_for_the_unprivileged:
            drop_capabilities()
        command = command_of(profile, case.scene, box, snapshot)
        before, out_before = box.look_outside(), look(box.out)
    except OSError as error:
        return Judgement(case, VOID, (Difference("the scene", "set", f"not set: {error}"),))
    try:
        finish = run_program(command, box, profile.limits, stop)
    except OSError as error:
        return Judgement(case, VOID, (Difference("the program", "started and ended", str(error)),))
    judge = _Judge(case, profile, finish, box, snapshot, out_before, strict_reasons)
    verdict, differences = judge.verdict(before)
    more = len(differences) - MAX_DIFFERENCES
    if more > 0:
        differences = [*differences[:MAX_DIFFERENCES], Difference("and more", "nothing", f"{more} more differences")]
    return Judgement(case, verdict, tuple(each.cut() for each in differences), finish, command, judge.unmapped)


PLACEHOLDER: Final = re.compile(r"\{(?:snapshot|out|db)\}")


def command_of(profile: Profile, scene: Scene, box: Sandbox, snapshot: Path) -> tuple[str, ...]:
    """Return the words that run a program on a scene."""
    words = {"{snapshot}": str(snapshot), "{out}": str(box.out), "{db}": str(scene.database)}
    command: list[str] = []
    for word in profile.command if scene.verb == DECODE else profile.verify:
        if word == "{options}":
            for option, value in scene.options.items():
                command += [each.replace("{value}", value) for each in profile.options[option]]
        else:
            command.append(PLACEHOLDER.sub(lambda match: words[match[0]], word))
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
        self.unmapped: str | None = None

    def verdict(self, before: Look) -> tuple[str, list[Difference]]:
        """Return the verdict and what is different; the worst first."""
        finish, profile = self._finish, self._profile
        try:
            after = self._box.look_outside()
        except OSError as error:
            return ESCAPED, [Difference("what lies outside of OUT", "as it was", str(error))]
        if paths := touched(before, after, self._case.scene):
            return ESCAPED, [Difference(f"{path}, outside of OUT", *TOUCHED, clause="TREE-10") for path in paths]
        if fed := self._box.fed_readers():
            return ESCAPED, [
                Difference(path, "nothing written into it", "written into", clause="TREE-30") for path in fed
            ]
        if finish.over_limit:
            return LIMIT, [Difference("the run", "within its limits", finish.over_limit, clause="CONV-8")]
        if finish.hung:
            return HANG, [
                Difference("the run", "an end", f"not done after {profile.limits.seconds:g} s", clause="CONV-8")
            ]
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
        try:
            judged = [self._judge(expected) for expected in self._case.allowed]
        except OSError as error:
            return FAIL, [Difference("OUT", "a tree that its owner can look at", str(error), clause="TREE-6")]
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
        after = look(out)
        left = [name.decode() for name in SEAL if name.decode() in after]
        if expected.out == UNTOUCHED:
            if after != self._out_before:
                found = "absent" if not after else ", ".join(left) or "something in it, or changed"
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
                Difference(name, str(wanted), NOT_TOLD if found in ("", -1) else str(found))
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
                *_differences_of_tree(expected, out, self._out_before, self._case.scene),
                *_differences_of_seal(out),
            ]
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


def _differences_of_tree(expected: Expected, out: Path, before: Look, scene: Scene) -> list[Difference]:
    """Compare what lies in OUT, but for the seal, with what has to: paths, kinds, modes and bytes."""
    found: dict[bytes, bytes] = {}
    differences = []
    statuses = dict(iter_below(out))
    parents = {os.path.dirname(path) for path in statuses}
    for path, status in sorted(statuses.items()):
        mode, place = status.st_mode, shown_path(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            differences.append(Difference(place, "a file or a folder", stat.filemode(mode)))
            continue
        if stat.S_ISREG(mode) and path not in SEAL:
            found[path] = read_regular(os.path.join(os.fsencode(out), path))
        elif stat.S_ISDIR(mode) and path != b"." and path not in parents:
            differences.append(
                Difference(place, "no folder without something in it", "an empty folder", clause="TREE-3")
            )
        if (seen := before.get(place)) and seen.inode == status.st_ino:
            old = scene.planted.get(scene.out + b"/" + path)
            if old is None or old.kind != "file" or old.data == found.get(path):
                # It was there before, and keeps the mode that it had.
                if seen.mode != stat.S_IMODE(mode):
                    differences.append(Difference(f"{place}, mode", f"{seen.mode:o}", f"{stat.S_IMODE(mode):o}"))
                continue
        right, clause = (FILE_MODE, "TREE-5") if stat.S_ISREG(mode) else (FOLDER_MODE, "TREE-6")
        if not mode_fits(right, stat.S_IMODE(mode), expected.strict):
            differences.append(Difference("modes", f"{right:o}", f"{stat.S_IMODE(mode):o}, {place}", clause=clause))
    for path in sorted(expected.tree.keys() | found.keys()):
        place = shown_path(path)
        if path not in found:
            differences.append(Difference(place, shown(expected.tree[path]), "no such file"))
        elif path not in expected.tree:
            differences.append(Difference(place, "no such file", shown(found[path])))
        elif not same_file(path, expected.tree[path], found[path], expected.strict):
            compare = difference_of_lines if place.endswith(".jsonl") else difference_of_bytes
            differences.append(compare(place, expected.tree[path], found[path]))
    return differences


def _differences_of_seal(out: Path) -> list[Difference]:
    """Recompute CHECKSUMS from the tree, and see that MANIFEST.json is there."""
    top = os.fsencode(out)
    statuses = dict(iter_below(out))
    files = sorted(path for path, status in statuses.items() if stat.S_ISREG(status.st_mode))
    missing = [name for name in SEAL if name not in files]
    if missing:
        return [Difference(name.decode(), "a file", "no such file", clause="SUMS-5") for name in missing]
    hashes = {path: hashlib.sha256(read_regular(os.path.join(top, path))).hexdigest().encode() for path in files}
    expected = [checksum_line(path, hashes[path]) for path in files if path != CHECKSUMS_NAME]
    found = read_regular(os.path.join(top, CHECKSUMS_NAME))
    lines = found.splitlines(keepends=True)
    if lines == expected:
        return []
    if sorted(lines) == sorted(expected):
        return [Difference("CHECKSUMS", "lines in bytewise order of their paths", "another order", clause="SUMS-3")]
    return [replace(difference_of_lines("CHECKSUMS", b"".join(expected), found), clause="SUMS-1")]


def checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Write a line of CHECKSUMS. [SUMS-1] [SUMS-2]"""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != path else b"") + sha256 + b"  " + escaped + b"\n"


def _differences_of_manifest(expected: Expected, out: Path, folder: Path) -> list[Difference]:
    """Compare the members of MANIFEST.json that a case fixes."""
    path = os.path.join(os.fsencode(out), MANIFEST_NAME)
    if not os.path.isfile(path) or os.path.islink(path):
        return []  # said already
    text = read_regular(path)
    try:
        manifest = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        words = "JSON, each member once" if isinstance(error, ValueError) else "JSON of a few levels"
        return [Difference("MANIFEST.json", words, str(error), clause="MANI-1")]
    differences = []
    for name, value in expected.manifest.items():
        wanted = value.replace("{folder}", str(folder)) if isinstance(value, str) else value
        found: Any = manifest
        for part in name.split("."):
            if isinstance(found, list):
                found = found[int(part)] if part.isdigit() and int(part) < len(found) else ABSENT
            else:
                found = found.get(part, ABSENT) if isinstance(found, dict) else ABSENT
        if wanted == PRESENT and found != ABSENT:
            continue
        wanted = None if wanted == NULL else wanted
        # Compared as JSON, since 1 and true are equal to Python.
        if json.dumps(found, sort_keys=True) != json.dumps(wanted, sort_keys=True):
            differences.append(Difference(f"MANIFEST.json, {name}", json.dumps(wanted), json.dumps(found)))
    if expected.canonical:
        differences += _differences_of_form(manifest, text, expected)
    return differences


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found


def _differences_of_form(manifest: Any, text: bytes, expected: Expected) -> Iterable[Difference]:
    """Write MANIFEST.json anew, and compare. [MANI-1] [MANI-19]"""
    canonical = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    if text != canonical:
        yield difference_of_bytes("MANIFEST.json", canonical, text)
    for tables, strict in ((OPEN_MEMBERS, expected.strict), (CLOSED_MEMBERS, TOLERANCES)):
        for path, members in tables.items():
            for found in _objects_at(manifest, path.split(".") if path else []):
                if not members_fit(members, found, strict):
                    wanted = ", ".join(each for each in members if each in found)
                    yield Difference(f"MANIFEST.json, members of {path or 'the object'}", wanted, ", ".join(found))
    wall_time = manifest.get("wall_time_iso") if isinstance(manifest, dict) else None
    if not (isinstance(wall_time, str) and WALL_TIME.fullmatch(wall_time)):
        yield Difference("MANIFEST.json, wall_time_iso", "RFC 3339 in UTC", json.dumps(wall_time))


def _objects_at(found: Any, path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects at a path; `*` is every item of a list."""
    if not path:
        if isinstance(found, dict):
            yield found
    elif path[0] == "*":
        for item in found if isinstance(found, list) else []:
            yield from _objects_at(item, path[1:])
    elif isinstance(found, dict):
        yield from _objects_at(found.get(path[0]), path[1:])


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers in a few words: 0, 3 to 7."""
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
