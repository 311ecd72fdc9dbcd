"""The file system fails under a program, and the program is killed midway: what has to be caught is."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from decoders import JUDGE_COMMAND
from ekvconform import cli
from ekvconform.campaigns import faults
from ekvconform.campaigns.faults import (
    ERRORS_OF_CALL,
    ERRORS_OF_KIND,
    FAULTS,
    Tried,
    iter_trials,
    judge_flush,
    named_paths,
    run_trials,
)
from ekvconform.campaigns.races import record_moments
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.loading import load_cases
from ekvconform.cases.system_calls import CALLS
from ekvconform.judge.known_failures import render_updated
from ekvconform.judge.verdicts import PASS, judge_case
from ekvconform.run.profiles import Profile, make_profile

CASE = next(case for case in load_cases() if case.id == "tree-every-kind-of-file")
SMALL = next(case for case in load_cases() if case.id == "envl-expiry-0")
SMALLEST = next(case for case in load_cases() if case.id == "rstr-envelope")

# Writes the tree that it is given as a careful program does; but for what its second word says.
WRITER = r"""
import errno, hashlib, json, os, signal, sys
out, way, tree = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def end(*_):
    for temporary in making if way != "litters" else ():
        if os.path.exists(temporary):
            os.unlink(temporary)
    if way not in ("keeps a seal", "seals first"):
        for name in ("CHECKSUMS", "MANIFEST.json"):
            if os.path.exists(os.path.join(out, name)):
                os.unlink(os.path.join(out, name))
    os._exit(0 if way == "ends well" else 130)

signal.signal(signal.SIGINT, end)
sidecars, faults, temporaries, making = {}, [], [], []

def report(path, error):
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) and way != "calls all errors alike"
    faults.append((6 if full else 7, f"{'disk-full' if full else 'io-error'} {path}: {error.strerror}"))

def write(path, data):
    place = os.path.join(out, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    name = ".tmp" + str(len(temporaries) or "")
    temporary = place if way == "writes in place" else os.path.join(os.path.dirname(place), name)
    if temporary != place:
        making.append(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    errors = []
    try:
        os.write(descriptor, data)
        if way != "never flushes":
            os.fsync(descriptor)
    except OSError as error:
        errors.append(error)
    try:
        os.close(descriptor)
    except OSError as error:
        if way != "swallows a close":
            errors.append(error)
    for error in errors[:-1]:
        report(place, error)
    if errors:
        raise errors[-1]
    if temporary != place:
        temporaries.append((temporary, place))
    if way != "litters":
        publish()

def publish():
    for temporary, place in temporaries:
        os.rename(temporary, place)
    temporaries.clear()

def write_manifest():
    try:
        write("MANIFEST.json", b"{}")
    except OSError:
        if way != "forgets its manifest":
            raise
        open(os.path.join(out, "MANIFEST.json"), "wb").close()
        os.chmod(os.path.join(out, "MANIFEST.json"), 0o600)

def settle():
    for path, descriptor in sidecars.items():
        try:
            os.close(descriptor)
        except OSError as error:
            if way != "reports one fault" or not faults:
                report(path, error)
    sidecars.clear()

def seal():
    lines = []
    files = {**tree, "MANIFEST.json": "{}"}
    if way != "has its manifest first":
        write_manifest()
    manifest = os.path.join(out, "MANIFEST.json")
    if os.path.exists(manifest) and not os.path.getsize(manifest):
        files["MANIFEST.json"] = ""
    for path in sorted(files, key=str.encode):
        lines.append(hashlib.sha256(files[path].encode()).hexdigest() + "  " + path + "\n")
    write("CHECKSUMS", "".join(lines).encode())

if os.path.isdir(out) and os.listdir(out):
    print("not-empty" if way == "is mute" else f"not-empty {out}: remove it", file=sys.stderr)
    sys.exit(5)
try:
    if way == "seals first":
        seal()
    if way == "has its manifest first":
        write_manifest()
    for path, text in tree.items():
        if path.endswith(".bin"):
            write(path, text.encode())
        else:
            place = os.path.join(out, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            sidecars[path] = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(sidecars[path], text.encode())
    publish()
    settle()
    if not faults and way != "seals first":
        seal()
        publish()
except OSError as error:
    if way == "has a traceback":
        raise
    report(error.filename or "?", error)
    settle()
if faults:
    for name in () if way in ("keeps a seal", "seals first") else ("CHECKSUMS", "MANIFEST.json"):
        try:
            os.unlink(os.path.join(out, name))
        except OSError:
            pass
    for _, words in faults:
        print(words, file=sys.stderr)
    sys.exit(0 if way == "always ends with 0" else faults[0][0])
"""


def profile_of(way: str, case: Case) -> Profile:
    tree = {path.decode(): data.decode() for path, data in case.expected.tree.items()}
    command = [sys.executable, "-I", "-S", "-c", WRITER, "{out}", way, json.dumps(tree), "{snapshot}"]
    exits = {"snapshot-refused": [4], "tree-refused": [5], "disk-full": [6], "io-error": [7]}
    texts = [{"pattern": "^(?P<fault>[a-z-]+) /?[A-Za-z.?]"}, {"pattern": "^not-empty$", "fault": "not-empty"}]
    return make_profile({"command": command, "exit": exits, "texts": texts}).located()


def tried(way: str, *only: str, case: Case = SMALLEST) -> list[Tried]:
    profile = profile_of(way, case)
    moments = record_moments(case, profile)
    trials = [each for each in iter_trials(case, moments) if not only or each.fault in only]
    flushed = [judge_flush(moments)] if not only or "flush" in only else []
    return [*run_trials(case, profile, trials, 2, lambda _: None), *flushed]


def test_a_careful_writer_passes_and_meets_every_fault() -> None:
    found = tried("is careful", case=SMALL)
    assert [str(each.trial) + each.words for each in found if each.verdict != PASS] == []
    assert {each.trial.fault for each in found} == set(FAULTS)
    words = Counter(each.words for each in found)
    assert words["refused"] > 80
    assert words["again: removed ., then complete"] > 40


@pytest.mark.parametrize(
    ("way", "fault", "verdict", "words"),
    [
        ("writes in place", "kill after", "FAIL", "a partial blob under its final name, "),
        ("swallows a close", "EIO", "FAIL", "a failed close is not reported [SAFE-31]"),
        ("calls all errors alike", "ENOSPC", "WRONG_REASON", "reported as io-error, not disk-full [SAFE-28]"),
        ("calls all errors alike", "full disk", "WRONG_REASON", "reported as io-error, not disk-full [SAFE-28]"),
        ("calls all errors alike", "no inode left", "WRONG_REASON", "reported as io-error, not disk-full [SAFE-28]"),
        ("keeps a seal", "EDQUOT", "FAIL", "refused, and MANIFEST.json is there [SAFE-27]"),
        ("never flushes", "flush", "FAIL", "nothing is flushed before rename (temporary) CHECKSUMS [SAFE-22]"),
        ("forgets its manifest", "EIO", "FAIL", "reported as complete, and MANIFEST.json"),
        ("has its manifest first", "kill before", "FAIL", "MANIFEST.json is there, and "),
        ("seals first", "kill before", "FAIL", "CHECKSUMS is there, and "),
        ("litters", "kill before", "FAIL", "killed, and it left "),
        ("litters", "interrupt", "FAIL", "interrupted, and it left "),
        ("seals first", "interrupt", "FAIL", "interrupted, and MANIFEST.json is there [SAFE-24]"),
        ("ends well", "interrupt", "FAIL", "interrupted, reported as complete, and "),
        ("is mute", "kill before", "FAIL", "again: refused, without saying what to remove [SAFE-26]"),
        ("reports one fault", "EIO on", "FAIL", "3 calls failed, and 1 are reported [SAFE-31]"),
        ("always ends with 0", "EIO", "FAIL", "reported as complete, and "),
        ("always ends with 0", "unwritable", "FAIL", "reported as complete, and "),
        ("has a traceback", "EIO", "CRASH", "the run: expected no panic or traceback"),
    ],
)
def test_what_a_careless_writer_does_is_caught(way: str, fault: str, verdict: str, words: str) -> None:
    case = CASE if way == "reports one fault" else SMALLEST  # which needs several files that stay open
    found = {(each.verdict, each.words[: len(words)]) for each in tried(way, fault, case=case)}
    assert (verdict, words) in found, found


def test_every_writing_call_can_fail_somehow() -> None:
    kinds = {shape.kind for shape in CALLS.values()} - {"look", "end"}
    assert set(ERRORS_OF_KIND) == kinds
    assert set(ERRORS_OF_CALL) <= set(CALLS)


def test_what_has_to_be_removed_is_found_in_a_text(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "redis").mkdir(parents=True)
    (out / "redis" / ".tmp").touch()
    text = f"not-empty at {out}/redis/.tmp: '{out}' holds something; {out}/gone, {tmp_path}/other. Remove {out}."
    assert named_paths(text, out) == [out / "redis" / ".tmp", out]


def test_a_program_that_fails_by_itself_is_not_tried(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["faults", CASE.id, "--", "false", "{snapshot}", "{out}"]) == 2
    reported = capfd.readouterr()
    assert f"{CASE.id}: not run: undisturbed it is FAIL: outcome: expected complete" in reported.out
    assert reported.err == "ekvconform: no case could be run\n"
    assert cli.main(["faults", *JUDGE_COMMAND, "file-bad-magic"]) == 2


def test_with_a_list_a_program_must_not_differ_in_another_way_undisturbed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = profile_of("is careful", SMALLEST)
    profile = replace(profile, command=tuple(word.replace("0o600", "0o644") for word in profile.command))
    known, work = tmp_path / "known-failures.txt", tmp_path / "work"
    known.write_text("# nothing is known\n")
    work.mkdir()
    words = ["faults", SMALLEST.id, "--number", "1", "--known-failures", str(known), "--", *profile.command]
    assert cli.main(words) == 2
    assert f"not run: undisturbed it differs in a way that {known} does not list: " in capfd.readouterr().out
    known.write_text(render_updated("", [judge_case(SMALLEST, profile, work)]))
    assert cli.main(words) == 0
    assert f"{SMALLEST.id}: differs undisturbed, and is not reported again: " in capfd.readouterr().out


def test_where_there_is_no_small_disk_nothing_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    def mount(directory: Path, option: str) -> None:
        raise OSError(1, "mount namespaces are not available here")

    monkeypatch.setattr(faults, "mount_memory", mount)
    found = tried("is careful", "full disk")
    assert {each.verdict for each in found} == {"VOID"}
    assert "mount namespaces" in found[0].words


def test_the_table_counts_each_call_and_fault(capfd: pytest.CaptureFixture[str]) -> None:
    command = list(profile_of("swallows a close", SMALLEST).command)
    assert cli.main(["faults", SMALLEST.id, "--", *command]) == 1
    reported = capfd.readouterr().out
    assert "canaries: " in reported
    assert "FAIL EIO, close redis/db_0/strings/(temporary): a failed close is not reported [SAFE-31]" in reported
    assert "FAIL" in reported.partition("│ close")[2].partition("│ f")[0]
    assert max(map(len, reported.partition("┏")[2].splitlines())) <= 100
    (row,) = [line for line in reported.splitlines() if line.startswith("│ the disk")]
    assert [cell.strip() for cell in row.split("│")[-5:-2]] != ["-", "-", "-"]
