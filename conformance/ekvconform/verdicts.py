"""What came of a case.

    verdict       meaning
    ------------  ---------------------------------------------------------------
    PASS          as expected
    FAIL          accepted what must be refused, refused what must be accepted,
                  another tree, other warnings, or a seal behind a refusal
    WRONG_REASON  refused, but for another fault than the case's
    CRASH         a signal, a panic, a traceback, an exit status that it does not have
    HANG          not done in time
    LIMIT         too much memory or output
    ESCAPED       something but OUT and TMPDIR was touched
    UNSUPPORTED   the case needs what the profile says the program lacks
    VOID          the scene could not be set; never a pass

The tree is looked at by us; what the program says about itself decides nothing but
the reason of a refusal and the warnings.
"""

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import ABSENT, Case
from ekvconform.profiles import Profile
from ekvconform.sandbox import Finish, run_program, sandbox

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
    r"^(Traceback \(most recent call last\)|panic: |thread '.*' panicked|fatal error: )", re.MULTILINE
)
SEAL: Final = ("MANIFEST.json", "CHECKSUMS")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one case, and why."""

    case: Case
    verdict: str
    differences: tuple[str, ...] = ()
    """Each says what was expected and what was found."""
    finish: Finish | None = None
    command: tuple[str, ...] = field(default=())


def judge_case(case: Case, profile: Profile) -> Judgement:
    """Run a program on one case and judge it."""
    if case.database != 0 and not profile.has_database:
        return Judgement(case, UNSUPPORTED, ("the case needs another database index than 0",))
    try:
        with sandbox() as box:
            snapshot = box.place(case.snapshot_name, case.snapshot)
            words = {"{snapshot}": str(snapshot), "{out}": str(box.out), "{db}": str(case.database)}
            command = tuple(_replaced(word, words) for word in profile.command)
            before = box.look_outside()
            finish = run_program(list(command), box, profile.limits)
            outside = box.look_outside()
            touched = sorted(path for path in before.keys() | outside.keys() if before.get(path) != outside.get(path))
            judgement = _judge(case, profile, finish, touched, box.out)
            return Judgement(case, *judgement, finish=finish, command=command)
    except OSError as error:
        return Judgement(case, VOID, (f"the scene could not be set: {error}",))


def _replaced(word: str, words: dict[str, str]) -> str:
    for placeholder, value in words.items():
        word = word.replace(placeholder, value)
    return word


def _judge(case: Case, profile: Profile, finish: Finish, touched: list[str], out: Path) -> tuple[str, tuple[str, ...]]:
    """Return the verdict and what is different; the worst first."""
    if touched:
        return ESCAPED, tuple(f"touched outside of OUT: {path}" for path in touched)
    if finish.over_limit:
        return LIMIT, (finish.over_limit,)
    if finish.hung:
        return HANG, (f"not done after {profile.limits.seconds} s",)
    if finish.left_running:
        return FAIL, (f"{finish.left_running} processes were still running after its end",)
    if finish.signal is not None:
        return CRASH, (f"ended by signal {finish.signal}",)
    if PANIC.search(finish.stderr) or PANIC.search(finish.stdout):
        return CRASH, ("a panic or traceback",)
    if finish.exit_status not in profile.documented:
        return CRASH, (f"exit status {finish.exit_status}, which its profile does not know",)

    expected = case.expected
    accepting = profile.complete if expected.outcome == "complete" else profile.partial
    if expected.outcome == "refused":
        return _judge_refusal(case, profile, finish, out)
    if finish.exit_status not in accepting:
        if finish.exit_status in profile.refused:
            return FAIL, (f"refused what must be accepted: {_first_line(finish.stderr)}",)
        return FAIL, (f"expected a {expected.outcome} dump, exit status {finish.exit_status}",)
    differences = [*_differences_of_tree(expected.tree, out), *_differences_of_seal(out)]
    differences += _differences_of_manifest(expected.manifest, out / SEAL[0])
    if profile.warnings:
        found = profile.warnings_in(finish.stdout + finish.stderr)
        differences += [
            f"warning {name}: expected {expected.warnings.get(name, 0)}, found {found.get(name, 0)}"
            for name in sorted(expected.warnings.keys() | found.keys())
            if expected.warnings.get(name, 0) != found.get(name, 0)
        ]
    return (FAIL, tuple(differences)) if differences else (PASS, ())


def _judge_refusal(case: Case, profile: Profile, finish: Finish, out: Path) -> tuple[str, tuple[str, ...]]:
    expected = case.expected
    if finish.exit_status not in profile.refused:
        return FAIL, (f"accepted what must be refused: {expected.fault} [{expected.clause}]",)
    left = [name for name in SEAL if os.path.lexists(out / name)]
    if left:
        return FAIL, (f"a refusal left {' and '.join(left)}",)
    found = profile.fault_in(finish.stderr)
    if found is not None and found != expected.fault:
        return WRONG_REASON, (f"expected {expected.fault} [{expected.clause}], found {found}",)
    return PASS, ()


def _differences_of_tree(expected: dict[str, bytes], out: Path) -> list[str]:
    """Compare what lies in OUT, but for the seal, with what has to."""
    found: dict[str, bytes] = {}
    differences = []
    for base, folders, files in os.walk(out):
        for name in (*folders, *files):
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            shown = os.path.relpath(path, out)
            if stat.S_ISREG(mode):
                if shown not in SEAL:
                    found[shown] = Path(path).read_bytes()
                if stat.S_IMODE(mode) & 0o077:
                    differences.append(f"{shown}: mode {stat.S_IMODE(mode):o}, others may read or write it")
            elif not stat.S_ISDIR(mode):
                differences.append(f"{shown}: neither a file nor a folder")
            elif not os.listdir(path):
                differences.append(f"{shown}: an empty folder")
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            differences.append(f"{path}: missing")
        elif path not in expected:
            differences.append(f"{path}: not expected; it holds {_shown(found[path])}")
        elif not _same(path, expected[path], found[path]):
            differences.append(f"{path}: expected {_shown(expected[path])}, found {_shown(found[path])}")
    return differences


def _same(path: str, expected: bytes, found: bytes) -> bool:
    if path.endswith("KEYMAP.jsonl"):
        # Some decoders repeat lines; the last one counts, so repeats are tolerated. [KMAP-10]
        return list(dict.fromkeys(found.splitlines(keepends=True))) == expected.splitlines(keepends=True)
    return expected == found


def _differences_of_seal(out: Path) -> list[str]:
    """Recompute CHECKSUMS from the tree, and see that MANIFEST.json is there."""
    differences = [f"{name}: missing" for name in SEAL if not (out / name).is_file()]
    if differences:
        return differences
    lines = []
    for base, _, files in os.walk(out):
        for name in files:
            path = Path(base) / name
            shown = os.fsencode(os.path.relpath(path, out))
            if shown != b"CHECKSUMS":
                lines.append((shown, hashlib.sha256(path.read_bytes()).hexdigest().encode()))
    expected = b"".join(b"%b  %b\n" % (sha256, path) for path, sha256 in sorted(lines))
    found = (out / "CHECKSUMS").read_bytes()
    if found != expected:
        return ["CHECKSUMS: not what sha256sum gives for this tree, in the order of its paths"]
    return []


def _differences_of_manifest(expected: dict[str, Any], path: Path) -> list[str]:
    """Compare the members of MANIFEST.json that a case fixes."""
    if not path.is_file():
        return []  # said already
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        return [f"MANIFEST.json: not JSON: {error}"]
    differences = []
    for name, value in expected.items():
        found: Any = manifest
        for part in name.split("."):
            found = found.get(part, ABSENT) if isinstance(found, dict) else ABSENT
        # To Python, 1 and true are equal; to a reader of JSON they are not.
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            differences.append(f"MANIFEST.json {name}: expected {json.dumps(value)}, found {json.dumps(found)}")
    return differences


def _shown(data: bytes, limit: int = 120) -> str:
    more = f" and {len(data) - limit} bytes more" if len(data) > limit else ""
    return repr(data[:limit])[1:] + more


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "(no text)"
