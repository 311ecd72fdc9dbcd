"""The suite judges programs; here it is judged itself."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from decoders import COMMAND, JUDGE_COMMAND, PROFILES
from ekvconform import cli
from ekvconform.cases.golden_cases import BrokenCaseError, load_case
from ekvconform.cases.limits import Limits
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.cases.snapshots import (
    BadDescriptionError,
    decode_bytes,
    decode_hex,
    describe_snapshot,
    render_bytes,
    render_hex,
)
from ekvconform.judge.carrier_probes import Carriers
from ekvconform.judge.causes import find_causes
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import (
    NOTHING_KNOWN,
    BrokenListError,
    KnownFailures,
    load_known_failures,
    render_updated,
)
from ekvconform.judge.suite_run import SuiteRun
from ekvconform.judge.verdicts import Judgement, judge_case
from ekvconform.judge.workers import judge_cases
from ekvconform.run.processes import descendants
from ekvconform.run.profiles import (
    BrokenProfileError,
    Profile,
    Reason,
    bare_profile,
    load_profile,
    make_profile,
)
from golden import ELSEWHERE
from hypothesis import given
from hypothesis import strategies as st
from patience import HANG_SECONDS
from store_strategies import stores
from writer import snapshot

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CASES = load_cases(FIXTURES)


# ---- the cases ----


def test_the_command_passes(tmp_path: Path) -> None:
    """What test_golden_cases.py leaves to programs, and a chapter of what it does not."""
    report, words = tmp_path / "report.jsonl", ["sums", "read-checksums-*", *(case.id for case in ELSEWHERE)]
    assert cli.main(["run", "--jobs", "2", "--jsonl", str(report), *JUDGE_COMMAND, *words]) == 0
    header, *rows, footer = map(json.loads, report.read_text().splitlines())
    assert header["cases"] == len(rows) == len(select_cases(CASES, words)) > 60
    # Not everybody may make a device node; then these cases do not run, and the report says so. Nor do those of what
    # happens to a blob while it has a temporary name: the command gives it none.
    devices = {row["id"] for row in rows if row["id"].endswith("-device")}
    named = {row["id"] for row in rows if row["id"].startswith("safe-during-temporary-")}
    named.add("safe-find-10-directory-swapped-after-the-look")
    others = {row["id"] for row in rows if row["verdict"] != "PASS"}
    assert others in (named, named | devices)
    assert footer["verdicts"].get("UNSUPPORTED", 0) == len(others)


# ---- snapshots as people write them ----


@given(st.binary(max_size=40))
def test_bytes_are_written_and_read(data: bytes) -> None:
    assert decode_bytes(render_bytes(data)) == data


@pytest.mark.parametrize("text", ["\\", "\\n", "\\x", "\\x0", "\\x0g"])
def test_a_lone_backslash_is_refused(text: str) -> None:
    with pytest.raises(BadDescriptionError):
        decode_bytes(text)


@given(stores())
def test_a_described_snapshot_is_the_writers(entries: list[tuple[bytes, bytes]]) -> None:
    described = [{"raw_key": render_bytes(key), "raw_value": render_bytes(value)} for key, value in entries]
    pieces = describe_snapshot({"entries": described, "last_commit": 7})
    assert decode_hex(render_hex(pieces)) == snapshot(entries, last_commit=7)
    for size in (1, 5, 30):
        cut = describe_snapshot({"entries": described, "last_commit": 7, "cut": size})
        assert b"".join(piece.data for piece in cut) == snapshot(entries, last_commit=7)[:-size]


def test_hex_that_is_none_is_refused() -> None:
    with pytest.raises(BadDescriptionError, match="line 2"):
        decode_hex("00 01  fine\n0x  not\n")


# ---- broken suites and profiles ----

GOOD = (FIXTURES / "cases" / "envl" / "envl-expiry-0.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('level = "must"', 'level = "perhaps"'), ("id = 'envl", "id = 'other"), ("= 'complete'", "= 'fine'"),
        ("= 'complete'", "= 'refused'"), ("['ENVL-8']", "[]"), ("[described]", "[undescribed]"),
        ("FF 01 01", "FF 01 02"), ("45 4B", "4B 4Z"), ("hi'", "ho'"), ("[expect.tree]", "[expect.woods]"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_fixture_that_is_no_case_is_named(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    path = tmp_path / "envl" / "envl-expiry-0.toml"
    path.parent.mkdir()
    path.write_text(GOOD)
    assert load_case(path).id == "envl-expiry-0"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BrokenCaseError, match=r"envl-expiry-0\.toml"):
        load_case(path)


def test_no_cases_are_a_broken_suite(tmp_path: Path) -> None:
    with pytest.raises(BrokenCaseError):
        load_cases(tmp_path)


def test_cases_are_selected_by_id_clause_chapter_and_level() -> None:
    named = ["envl-expiry-0", "rhll-expiry-0-and-clamped", "rttl-expiries-at-the-limits"]
    assert [case.id for case in select_cases(CASES, ["ENVL-8"])] == named
    assert {case.family for case in select_cases(CASES, ["sizes"])} == {"sizes"}
    assert {case.chapter for case in select_cases(CASES, ["kmap"])} == {"kmap"}
    assert len(select_cases(CASES, ["visi-reserved-bit-?"])) == 5
    assert {case.level for case in select_cases(CASES, ["may"])} == {"may"}
    assert cli.main(["run", *JUDGE_COMMAND, "no-such-case"]) == 2
    assert cli.main(["run", *JUDGE_COMMAND, "rstr-bare", "no-such-case"]) == 2, "a word with a slip is not passed over"


def test_a_profile_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    command = "command = ['{snapshot}', '{out}']\n"
    for text in (
        command + "exit = 3",
        command + "[exit]\ncomplete = [0]\nrefused = [0, 1]",
        command + "[exit]\npartial = [3]\nio-error = [3]",
        command + "[exit]\nperhaps = [3]",
        command + "[options]\nonly = ['--only']",
        command + "verify = ['x']",
        command + "[[texts]]\npattern = 'x'",
        command + "[[texts]]\npattern = '('\nfault = 'x'",
        command + "[features]\nwings = true",
        command + "[limits]\nyears = 1",
        command + "features = 3",
        "",
        "command = ['x']",
        "command = ['{snapshot}', '{out}']\nwhat = 1",
        "not toml",
    ):
        path = tmp_path / "profile.toml"
        path.write_text(text)
        with pytest.raises(BrokenProfileError):
            load_profile(path)
        assert cli.main(["run", "--profile", str(path)]) == 2
    with pytest.raises(BrokenProfileError):
        bare_profile(["decoder", "{snapshot}"])


# ---- the production decoder's recorded texts ----

PRODUCTION = load_profile(FIXTURES.parent / "conformance" / "profiles" / "production.toml")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("EOF", "truncated"),
        ("unexpected EOF", "truncated"),
        ('got "EKVPBBL9": backup: snapshot magic header does not match "EKVPBBL1"', "bad-magic"),
        ("backup: snapshot truncated mid-entry", "truncated"),
        ("encoded key length 3 < 8: backup: encoded key shorter than timestamp suffix", "too-short"),
        ("encoded value length 5 < 9: backup: encoded value shorter than value-header", "too-short"),
        ("length 2097152 > 1048584: backup: snapshot key length exceeds limit", "too-large"),
        ("length 999999999 > 268435499: backup: snapshot value length exceeds limit", "too-large"),
        ("backup: snapshot contains encrypted entries", "encrypted"),
        ("encryption_state=0x2 is reserved: backup: value header carries reserved encryption_state", "reserved-bits"),
        ("value header byte 0b00001000: backup: value header carries reserved encryption_state", "reserved-bits"),
        ("header truncated: backup: invalid !redis|str| value", "invalid-value"),
        ("ttl section truncated: backup: invalid !redis|hll| value", "invalid-value"),
        ("length 7 != 8: backup: invalid !redis|ttl| value", "invalid-value"),
        ("backup: refusing to overwrite symlink at /o: open /o: too many levels of symbolic links", "unsafe-path"),
        ("backup: refusing to overwrite hard-linked file at /o/x (nlink=2)", "unsafe-path"),
        ("backup: refusing to write to FIFO at /o/x: open /o/x: no such device or address", "unsafe-path"),
        ("backup: refusing to traverse symlinked ancestor at /o", "unsafe-path"),
        ("something nobody has recorded", None),
    ],
)  # fmt: skip
def test_texts_of_the_production_decoder_are_mapped(text: str, fault: str | None) -> None:
    assert PRODUCTION.reason_in(f"elastickv-snapshot-decode: decode /s.fsm: {text}\n") == (fault and Reason(fault))


def test_the_warning_of_the_production_decoder_is_mapped() -> None:
    line = 'time=x level=WARN msg="encoder warning" event=redis_orphan_ttl count=3 hint="..."\n'
    assert PRODUCTION.warnings_in(line) == {"orphan-ttl": 3}


# ---- odd decoders: each gets its verdict and no other ----

BY_ID = {case.id: case for case in CASES}
LIMITS = Limits(seconds=2.0, memory_mib=200, files_mib=8)
PYTHON = sys.executable


EATS_MEMORY = "data = bytearray(400 * 2**20); import time; time.sleep(60)"


def odd(program: str) -> Profile:
    """A profile of a program that says its reasons, its warnings and its findings as the reference does."""
    exits = {"partial": [3], "snapshot-refused": [4], "tree-refused": [5], "io-error": [7]}
    command = [PYTHON, "-c", program, "{snapshot}", "{out}", EATS_MEMORY, "{options}"]
    words = {"command": command, "exit": exits, "options": {"into_existing": []}}
    return replace(
        make_profile(words), name="odd", verify=(PYTHON, "-c", program, "{out}"), limits=LIMITS,
        texts=COMMAND.texts, warnings=COMMAND.warnings, findings=COMMAND.findings,
    )  # fmt: skip


DECODE = (
    "import os, subprocess, sys\n"
    "ended = subprocess.run([sys.executable, '-m', 'ekvdump', 'decode', '--no-sync', *sys.argv[1:3]])\n"
    "out = sys.argv[2]\n"
)
END = "\nsys.exit(ended.returncode)"
RESEAL = (
    "\nimport hashlib\n"
    "paths = [os.path.relpath(os.path.join(b, n), out) for b, _, ns in os.walk(out) for n in ns if n != 'CHECKSUMS']\n"
    "lines = [hashlib.sha256(open(os.path.join(out, p), 'rb').read()).hexdigest() + '  ' + p for p in sorted(paths)]\n"
    "open(out + '/CHECKSUMS', 'w').write(''.join(line + chr(10) for line in lines))"
)
EDIT_MANIFEST = (
    DECODE
    + "import json\nm = json.load(open(out + '/MANIFEST.json'))\n{}\n"
    + ("open(out + '/MANIFEST.json', 'w').write(json.dumps(m, indent=2, ensure_ascii=False) + chr(10))" + RESEAL + END)
)
KEYMAP_TWICE = DECODE + "p = out + '/redis/db_0/KEYMAP.jsonl'; t = open(p).read(); open(p, 'w').write(t * 2)" + RESEAL
REFUSE = "import sys; print('ekvdump: {}', file=sys.stderr); sys.exit({})"
EASY, BROKEN, UNREADABLE = "rstr-envelope", "file-footer-mismatch", "envl-envelope-without-flags"
ODD = {
    "exits 0 and writes nothing": ("", EASY, "FAIL"),
    "exits 0 and writes nothing, also where it should refuse": ("", BROKEN, "FAIL"),
    "hangs": ("import time; time.sleep(60)", EASY, "HANG"),
    "forks a child and hangs": ("import os, time\nos.fork() or os.setsid()\ntime.sleep(60)", EASY, "HANG"),
    "forks a child that hangs and exits": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)", EASY, "FAIL",
    ),
    "waits for somebody to write into a FIFO": ("import sys; open(sys.argv[1]).read()", "file-snapshot-fifo", "HANG"),
    "eats memory": (EATS_MEMORY, EASY, "LIMIT"),
    "lets a child eat memory": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[3]])", EASY, "LIMIT",
    ),
    "lets an orphan eat memory and waits": (
        "import os, sys, time\nif os.fork() == 0:\n    if os.fork() == 0:\n        exec(sys.argv[3])\n    os._exit(0)\n"
        "time.sleep(60)", EASY, "LIMIT",
    ),
    "floods stderr": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", EASY, "LIMIT"),
    "floods stderr and ends": ("import sys; sys.stderr.write('x' * 2**21); sys.exit(4)", BROKEN, "LIMIT"),
    "writes without end into OUT": (
        "import os, sys, time\nos.mkdir(sys.argv[2])\nopen(sys.argv[2] + '/x', 'wb').write(bytes(2**24))\n"
        "time.sleep(60)", EASY, "LIMIT",
    ),
    "prints a traceback and exits with 1": ("1 / 0", BROKEN, "CRASH"),
    "prints a traceback and exits as if it had refused": (
        "import sys\nsys.excepthook = lambda *how: (sys.__excepthook__(*how), sys.exit(4))\n1 / 0",
        BROKEN, "CRASH",
    ),
    "prints a panic and exits as if it had refused": (
        "import sys; print('panic: runtime error', file=sys.stderr); sys.exit(4)", BROKEN, "CRASH",
    ),
    "exits with a status that it does not document": ("import sys; sys.exit(77)", BROKEN, "CRASH"),
    "ends by a signal": ("import os; os.abort()", BROKEN, "CRASH"),
    "refuses everything with a plausible text": (
        REFUSE.format("offset 1: words [truncated, FILE-15]", 4), BROKEN, "WRONG_REASON",
    ),
    "names another clause": (
        REFUSE.format("offset 77: words [footer-mismatch, FILE-17]", 4), BROKEN, "WRONG_REASON",
    ),
    "names another offset": (
        REFUSE.format("offset 1: words [footer-mismatch, FILE-18]", 4), BROKEN, "WRONG_REASON",
    ),
    "names another path": (
        REFUSE.format("/elsewhere: words [io-error, FILE-24]", 7), "file-snapshot-missing", "WRONG_REASON",
    ),
    "refuses with the exit status of another class": (
        REFUSE.format("words [io-error, FILE-24]", 4), "file-snapshot-missing", "WRONG_REASON",
    ),
    "refuses everything": ("import sys; sys.exit(4)", EASY, "FAIL"),
    "leaves a symlink at the seal behind a refusal": (
        "import os, sys; os.mkdir(sys.argv[2]); os.symlink('x', sys.argv[2] + '/CHECKSUMS'); "
        "sys.exit(print('no', file=sys.stderr) or 4)", UNREADABLE, "PASS",
    ),
    "leaves a seal behind a refusal": (
        "import os, sys; os.mkdir(sys.argv[2]); open(sys.argv[2] + '/CHECKSUMS', 'w'); "
        "sys.exit(print('no', file=sys.stderr) or 4)", UNREADABLE,
        "DEVIATES",
    ),
    "leaves a directory behind an early refusal": (
        "import os, sys; os.mkdir(sys.argv[2]); sys.exit(print('no', file=sys.stderr) or 4)", BROKEN, "DEVIATES",
    ),
    "leaves blobs behind a late refusal": (
        "import os, sys; os.mkdir(sys.argv[2]); open(sys.argv[2] + '/x', 'w'); "
        "sys.exit(print('no', file=sys.stderr) or 4)", UNREADABLE, "PASS",
    ),
    "writes into an OUT that it refuses": (
        "import sys; open(sys.argv[2] + '/x', 'w'); sys.exit(print('no', file=sys.stderr) or 5)",
        "safe-output-not-empty", "DEVIATES",
    ),
    "refuses without a word": ("import sys; sys.exit(4)", BROKEN, "UNTOLD"),
    "writes outside": (DECODE + "open(out + '/../beside', 'w')", EASY, "ESCAPED"),
    "removes what lies outside": (DECODE + "os.remove(out + '/../../canary/file')", EASY, "ESCAPED"),
    "changes a canary": (DECODE + "open(out + '/../../canary/file', 'a').write('x')", EASY, "ESCAPED"),
    "changes the mode of a canary": (DECODE + "os.chmod(out + '/../../canary/file', 0o600)", EASY, "ESCAPED"),
    "gives a canary one more name": (
        DECODE + "os.link(out + '/../../canary/file', os.environ['TMPDIR'] + '/x')", EASY, "ESCAPED",
    ),
    "touches the snapshot": (DECODE + "os.utime(sys.argv[1])", EASY, "ESCAPED"),
    "writes through a hard link": (
        "import sys; open(sys.argv[2] + '/MANIFEST.json', 'w').write('{}')",
        "safe-hard-link-at-the-manifest", "ESCAPED",
    ),
    "writes a file too many": (DECODE + "open(out + '/more', 'w')" + RESEAL, EASY, "FAIL"),
    "leaves a file out": (
        DECODE + "os.remove(out + '/redis/db_0/strings_ttl.jsonl')" + RESEAL, "envl-expiry-0", "FAIL",
    ),
    "makes an empty directory": (DECODE + "os.mkdir(out + '/redis/db_0/hll')", EASY, "DEVIATES"),
    "makes a symlink in OUT": (DECODE + "os.symlink('k.bin', out + '/redis/db_0/strings/l.bin')", EASY, "FAIL"),
    "changes a blob after its seal": (
        DECODE + "open(out + '/redis/db_0/strings/k.bin', 'w').write('ho')", EASY, "FAIL",
    ),
    "seals without MANIFEST.json": (DECODE + "os.remove(out + '/MANIFEST.json')" + RESEAL, EASY, "DEVIATES"),
    "leaves blobs that all may read": (DECODE + "os.chmod(out + '/redis/db_0/strings/k.bin', 0o644)", EASY, "DEVIATES"),
    "leaves directories that all may write": (DECODE + "os.chmod(out + '/redis/db_0', 0o777)", EASY, "DEVIATES"),
    "takes more modes away than it has to": (
        DECODE + "os.chmod(out + '/redis/db_0/strings/k.bin', 0o400); os.chmod(out + '/redis', 0o700)", EASY, "PASS",
    ),
    "has another number in its manifest": (
        EDIT_MANIFEST.format("m['key_segment_max_bytes'] = 241"), "mani-fixed-members", "FAIL",
    ),
    "has true where 1 should be": (EDIT_MANIFEST.format("m['format_version'] = True"), "mani-fixed-members", "FAIL"),
    "has members of its own in its manifest": (
        EDIT_MANIFEST.format("m = {'mine': 1} | m; m['outcome']['mine'] = 2"), "mani-form", "PASS",
    ),
    "has its members in another order": (
        EDIT_MANIFEST.format("m = dict(reversed(m.items()))"), "mani-form", "FAIL",
    ),
    "writes its manifest on one line": (
        EDIT_MANIFEST.replace(", indent=2", "").format(""), "mani-form", "FAIL",
    ),
    "repeats KEYMAP lines": (KEYMAP_TWICE + END, "segm-looks-like-binary", "PASS"),
    "repeats KEYMAP lines, where that is not let pass": (KEYMAP_TWICE + END, "kmap-find-20-one-line-a-key", "FAIL"),
    "repeats KEYMAP lines, where both is allowed": (KEYMAP_TWICE + END, "tole-repeated-keymap-lines", "PASS"),
    "gives a warning of its own": (DECODE + "print('warning: of-my-own: 1: words')" + END, EASY, "PASS"),
    "gives a warning of the spec that is not due": (
        DECODE + "print('warning: no-footer: 1: words')" + END, EASY, "DEVIATES",
    ),
    "keeps a warning to itself": (
        DECODE.replace("'--no-sync'", "'--no-sync', '--quiet'") + END, "rttl-orphans", "FAIL",
    ),
    "ends a partial dump as if it were complete": (DECODE, "keys-unknown", "FAIL"),
    "finds nothing": ("", "veri-no-seal", "FAIL"),
    "finds something else": (
        "import sys; print('CHECKSUMS: words [mismatch, READ-33]'); sys.exit(1)", "veri-no-seal", "FAIL",
    ),
    "repairs what it should only look at": (
        "import sys; open(sys.argv[1] + '/CHECKSUMS', 'w')\n"
        "print('CHECKSUMS: words [no-seal, VERI-3]'); sys.exit(1)", "veri-no-seal", "FAIL",
    ),
    "finds what there is": (
        "import sys; print('CHECKSUMS: words [no-seal, VERI-3]'); sys.exit(1)", "veri-no-seal", "PASS",
    ),
    "destroys the file that lies where OUT belongs": (
        "import sys; open(sys.argv[2], 'w').write('gone')\n" + REFUSE.format("words [unsafe-path, SAFE-17]", 5),
        "safe-output-is-a-file", "FAIL",
    ),
    "puts a link in the place of OUT": (
        DECODE + "os.rename(out, os.environ['TMPDIR'] + '/x'); os.symlink(os.environ['TMPDIR'] + '/x', out)",
        EASY, "FAIL",
    ),
    "opens OUT to all": (DECODE + "os.chmod(out, 0o777)", EASY, "DEVIATES"),
    "opens the directory above to all": (DECODE + "os.chmod(out + '/../..', 0o777)", EASY, "ESCAPED"),
    "takes back what it has reported": (
        "import sys; print('panic: oops', file=sys.stderr, flush=True)\n"
        "open('/dev/stderr', 'w').write('fine'); sys.exit(4)", BROKEN, "CRASH",
    ),
    "calls a refusal a fatal error": (
        "import sys; print('fatal error: bad', file=sys.stderr); sys.exit(4)", BROKEN, "PASS",
    ),
    "ends the process that watches it": (
        "import os, time; os.kill(os.getppid(), 9); time.sleep(60)", EASY, "ESCAPED",
    ),
    "makes a tree of 1500 directories": (
        DECODE + "for n in range(1, 1501): os.mkdir(out + '/d' * n)", EASY, "DEVIATES",
    ),
    "makes a file of 4 TiB that holds nothing": (DECODE + "open(out + '/x', 'w').truncate(2**42)", EASY, "LIMIT"),
    "links CHECKSUMS to what never ends": (
        DECODE + "os.remove(out + '/CHECKSUMS'); os.symlink('/dev/zero', out + '/CHECKSUMS')", EASY, "FAIL",
    ),
    "nests its manifest deep": (
        DECODE + "open(out + '/MANIFEST.json', 'w').write('[' * 200000)" + RESEAL, EASY, "DEVIATES",
    ),
    "has a member of its manifest twice": (
        DECODE + "p = out + '/MANIFEST.json'; t = open(p).read()\n"
        "open(p, 'w').write(t.replace('{', '{\"phase\": 0,', 1))" + RESEAL, EASY, "DEVIATES",
    ),
    "has a number of many digits": (
        REFUSE.format("offset " + "9" * 5000 + ": words [footer-mismatch, FILE-18]", 4), BROKEN, "WRONG_REASON",
    ),
    "uses its TMPDIR": (DECODE + "open(os.environ['TMPDIR'] + '/x', 'w')", EASY, "PASS"),
    "decodes": (DECODE, EASY, "PASS"),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_an_odd_decoder_gets_its_verdict_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    program, case_id, verdict = ODD[what]
    # In a process of its own, as the command does it, since it takes in what the program leaves behind.
    script = (
        "import pickle, sys, tempfile\n"
        "from ekvconform.judge.workers import judge_cases\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "case, profile = pickle.load(sys.stdin.buffer)\n"
        "(found,) = judge_cases([case], profile, 1, strict_reasons=False, on_result=lambda judgement: None)\n"
        "print('DEVIATES' if found.verdict == 'PASS' and found.deviations else found.verdict, *found.differences)\n"
    )

    reported = subprocess.run(
        [PYTHON, "-c", script, tmp_path],
        input=pickle.dumps((BY_ID[case_id], odd(program))),
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    ).stdout.decode()
    assert reported.split()[0] == verdict, reported
    assert list(tmp_path.iterdir()) == [], "a file stayed behind"
    assert not [pid for pid in descendants(os.getpid()) if b"time.sleep(60)" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_program_that_cannot_be_started_is_void(tmp_path: Path) -> None:
    profile = bare_profile([str(tmp_path / "missing"), "{snapshot}", "{out}"])
    assert judge_case(BY_ID[EASY], profile, tmp_path).verdict == "VOID"
    assert cli.main(["run", "rstr-envelope", "--", str(tmp_path / "missing"), "{snapshot}", "{out}"]) == 2


def test_a_program_without_database_index_is_not_asked_for_one(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.id == "tree-database-index")
    assert judge_case(case, PRODUCTION, tmp_path).verdict == "UNSUPPORTED"


@pytest.mark.parametrize("words", [["run"], ["step"], ["faults"], ["repro", "rstr-bare"], ["run", "rstr", "--smoke"]])
def test_without_a_program_it_says_how_to_name_one(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    reported = capfd.readouterr()
    assert reported.out == ""
    assert reported.err == (
        "ekvconform: no program to judge: name one, as in "
        f"`ekvconform {words[0]} -- ./my-decoder {{snapshot}} {{out}}`, or a profile with --profile; "
        "`ekvconform init -- ..` writes ./ekvconform.toml, which is used without being named\n"
    )


def test_a_command_names_the_interpreter_that_runs_the_judge(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('command = ["{python}", "{snapshot}", "{out}"]\nverify = ["{python}", "{out}"]\n')
    profile = load_profile(tmp_path / "p.toml").located()
    assert profile.command == (PYTHON, "{snapshot}", "{out}")
    assert profile.verify == (PYTHON, "{out}")
    assert load_profile(tmp_path / "p.toml", ["{python}", "-c", "{snapshot}{out}"]).command[0] == PYTHON


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_of_this_repository_can_be_read(path: Path) -> None:
    assert load_profile(path).texts


def test_the_command_says_what_was_different(capfd: pytest.CaptureFixture[str]) -> None:
    command = [PYTHON, "-c", "", "{snapshot}", "{out}"]
    assert cli.main(["run", "rstr-envelope", "--", *command]) == 1
    reported = capfd.readouterr().out
    assert "1 case: missing: string in an envelope [RSTR-6]" in reported
    assert "RSTR-6 (MUST): A string that is shown MUST become the blob" in reported
    assert "for example FAIL rstr-envelope: " in reported
    assert "redis/db_0/strings/k.bin: expected 2 bytes `hi`, found no such file" in reported


def test_a_refusal_without_a_reason_passes_unless_reasons_are_strict(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["--", PYTHON, "-c", "import sys; sys.exit('no!')", "{snapshot}", "{out}"]
    assert cli.main(["run", BROKEN, *command]) == 0
    assert "the reason of 1 refusal was not compared" in capfd.readouterr().out
    assert cli.main(["run", "--strict-reasons", BROKEN, *command]) == 1
    reported = capfd.readouterr().out
    assert "WRONG_REASON" in reported
    assert "not mapped by the profile: no!" in reported


def test_a_scene_that_cannot_be_set_is_void_and_never_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("ekvconform.run.sandbox.plant", fail)
    judgement = judge_case(BY_ID["safe-output-not-empty"], COMMAND, tmp_path)
    assert judgement.verdict == "VOID"
    monkeypatch.setattr("ekvconform.cli.running.run_suite", lambda *_, **__: SuiteRun([judgement], Carriers()))
    assert cli.main(["run", *JUDGE_COMMAND, "safe-output-not-empty"]) == 3


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_leaves_nothing_running_and_no_sandbox(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "started")
    (tmp_path / "tmp").mkdir()
    command = ["sh", "-c", f"echo >{tmp_path}/started; exec sleep 61.5", "{snapshot}", "{out}"]
    run = subprocess.Popen(
        [PYTHON, "-m", "ekvconform", "run", "--jobs", "1", "rstr", "--", *command],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    (tmp_path / "started").read_bytes()
    run.send_signal(getattr(signal, name))
    reported = run.communicate(timeout=HANG_SECONDS)
    assert run.returncode == 130
    assert reported == (b"", b"ekvconform: interrupted\n")
    assert list((tmp_path / "tmp").iterdir()) == []
    alive = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
    assert not [path for path in alive if b"sleep\x0061.5" in command_of(int(path.parent.name))]


def test_list_show_and_snapshot(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "ENVL-8"]) == 0
    assert capfd.readouterr().out.startswith("envl-expiry-0 ")
    assert cli.main(["show", "envl-expiry-0"]) == 0
    assert capfd.readouterr().out.endswith(GOOD)
    assert cli.main(["snapshot", "envl-expiry-0", "-o", str(tmp_path / "s")]) == 0
    assert (tmp_path / "s").read_bytes() == load_case(FIXTURES / "cases" / "envl" / "envl-expiry-0.toml").scene.snapshot
    (tmp_path / "store.toml").write_text("[[entries]]\nkey = '!redis|str|k'\nts = 5\nbody = 'hi'\n")
    assert cli.main(["snapshot", str(tmp_path / "store.toml")]) == 0
    assert "version suffix: NOT 5" in capfd.readouterr().out
    for text in (
        "entries = [{ key = 'k' }]", "last_commit = 'x'", "last_commit = -1", "header = 5", "footer = 3", "cut = 'x'",
        "entries = [1]", "entries = [{ key = 'k', ts = 'x' }]", "what = 1", "no toml",
    ):  # fmt: skip
        (tmp_path / "store.toml").write_text(text)
        assert cli.main(["snapshot", str(tmp_path / "store.toml")]) == 2


def test_files_that_cannot_be_written_are_usage(tmp_path: Path) -> None:
    program = "import sys; from ekvconform.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [PYTHON, "-c", program]
    for words in (
        ["snapshot", "envl-expiry-0", "-o", str(tmp_path)],
        ["run", "envl-expiry-0", "--jsonl", str(tmp_path / "no" / "x")],
    ):  # fmt: skip
        reported = subprocess.run([*command, *words], check=False, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert reported.returncode == 2
        assert "Traceback" not in reported.stderr
    with open("/dev/full", "wb") as full:
        assert subprocess.run([*command, "list"], stdout=full, check=False, timeout=HANG_SECONDS).returncode == 2


# ---- known failures ----

IDS_OF_CASES = [case.id for case in CASES]


def known_of(tmp_path: Path, text: str) -> KnownFailures:
    path = tmp_path / "known"
    path.write_text(text)
    return load_known_failures(path, IDS_OF_CASES)


def judged(case_id: str, verdict: str, *forms: str) -> Judgement:
    differences = tuple(Difference("files", "it", "good", "bad", form) for form in forms or ("bad",))
    return Judgement(next(case for case in CASES if case.id == case_id), verdict, differences)


def counted_as(known: KnownFailures, judgement: Judgement) -> str:
    return known.apply([judgement], is_whole=False).judgements[0].verdict


@pytest.mark.parametrize(
    ("found", "counts_as"),
    [
        ("FAIL", "XFAIL"), ("PASS", "XPASS"), ("CRASH", "CRASH"), ("WRONG_REASON", "WRONG_REASON"),
        ("UNSUPPORTED", "UNSUPPORTED"), ("VOID", "VOID"),
    ],
)  # fmt: skip
def test_a_listed_case_counts_as_the_list_lets_it(tmp_path: Path, found: str, counts_as: str) -> None:
    known = known_of(tmp_path, "# a list\n\nenvl-expiry-0  FAIL  # bug 7\n")
    assert counted_as(known, judged("envl-expiry-0", found)) == counts_as
    assert counted_as(known, judged("rstr-envelope", found)) == found


@pytest.mark.parametrize(
    "line",
    ["envl-expiry-0", "envl-expiry-0 FAIL", "envl-expiry-0 FAIL #", "envl-expiry-0 PASS # x", "envl-expiry-0 VOID # x",
     "envl-expiry-0 fail # x", "* FAIL # x", "visi-* FAIL # x", "envl-expiry-0 FAIL # x\nenvl-expiry-* FAIL # y"],
)  # fmt: skip
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(BrokenListError, match=r"known:[12]: "):
        known_of(tmp_path, line + "\n")


def test_a_line_that_matches_nothing_is_stale(tmp_path: Path) -> None:
    known = known_of(tmp_path, "no-such-case FAIL # x\nvisi-reserved-bit-? FAIL # five\n")
    assert [each.word for each in known.unmatched] == ["no-such-case"]
    assert len(known.by_case or {}) == 5


def test_a_case_that_fails_by_something_else_is_unexpected(tmp_path: Path) -> None:
    known = known_of(tmp_path, "envl-expiry-0  FAIL  {files: bad; files: worse}  # bug 7\n")
    assert counted_as(known, judged("envl-expiry-0", "FAIL", "bad", "worse")) == "XFAIL"
    assert counted_as(known, judged("envl-expiry-0", "FAIL", "bad")) == "FAIL"
    assert counted_as(known, judged("envl-expiry-0", "FAIL", "bad", "worse", "worst")) == "FAIL"


def test_a_deviation_covers_what_it_names_in_any_case(tmp_path: Path) -> None:
    known = known_of(tmp_path, "RSTR-2  files  {bad}  2 cases  # bare strings\n")
    first, second = judged("rstr-bare", "FAIL"), judged("envl-expiry-0", "FAIL")
    assert counted_as(known, first) == "XFAIL"
    assert counted_as(known, judged("rstr-bare", "FAIL", "bad", "worse")) == "FAIL"
    assert known.apply([first, second], is_whole=True).stale == []
    assert known.apply([first], is_whole=False).stale == [], "the rest did not run"
    assert known.apply([first], is_whole=True).stale == ["line 1 says 2 cases, the run shows 1: RSTR-2 files {bad}"]
    third = judged("visi-deleted", "FAIL")
    assert known.apply([first, second, third], is_whole=False).stale == [
        "line 1 says 2 cases, the run shows 3: RSTR-2 files {bad}"
    ]


def test_what_a_case_is_not_about_makes_a_run_red_and_the_case_pass() -> None:
    mode = Difference("modes", "x", "600", "644", "644 for 600: a blob", "TREE-7")
    judgement = Judgement(BY_ID["envl-expiry-0"], "PASS", (mode,))
    assert judgement.own == ()
    assert judgement.deviations == (mode,)
    applied = NOTHING_KNOWN.apply([judgement], is_whole=False)
    assert applied.judgements[0].verdict == "PASS"
    assert applied.unlisted(judgement) == (mode,)
    (cause,) = find_causes([judgement], applied)
    assert (cause.clause, cause.failing, cause.deviating) == ("TREE-7", [], ["envl-expiry-0"])


def test_the_shortest_list_that_is_true_names_a_deviation_once() -> None:
    found = [
        judged("rstr-bare", "FAIL"), judged("rstr-envelope", "FAIL"), judged("visi-deleted", "FAIL", "other"),
        judged("rhll-envelope", "PASS", "nothing"),
    ]  # fmt: skip
    found[-1] = replace(found[-1], differences=())
    text = render_updated("# kept\nrstr-envelope  FAIL  # by hand\n", found)
    assert text == (
        "# kept\n"
        "RSTR-2  files  {bad}  2 cases  # not looked into yet\n"
        "visi-deleted  FAIL  {files: other}  # not looked into yet\n"
    )
    assert render_updated(text, found) == text


def test_known_failures_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "known"
    path.write_text("rhll-envelope  FAIL  # bug 1\ngone  FAIL  # bug 2\n")
    program = ["--", PYTHON, "-c", "", "{snapshot}", "{out}"]
    command = ["run", "--known-failures", str(path), "rhll-envelope", "rstr-envelope", *program]
    assert cli.main(command) == 1
    reported = capfd.readouterr().out
    assert "stale: line 2" in reported
    assert "XFAIL" in reported
    assert cli.main([*command[:3], "--update-known-failures", *command[3:]]) == 2
    assert "needs a run of all cases" in capfd.readouterr().err
    known = ["run", *JUDGE_COMMAND, "--known-failures"]
    assert cli.main([*known, str(path), "rhll-envelope"]) == 1, "the command passes what is listed"
    assert cli.main(["run", *JUDGE_COMMAND, "--update-known-failures"]) == 2
    assert cli.main([*known, str(tmp_path / "missing"), "rhll-envelope"]) == 2


def test_a_profile_and_its_list_in_the_current_directory_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ekvconform.toml").write_text(f"command = ['{PYTHON}', '-c', '', '{{snapshot}}', '{{out}}']\n")
    (tmp_path / "ekvconform-known-failures.txt").write_text("rhll-envelope  FAIL  # bug 1\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "rhll-envelope"]) == 0
    assert "1 case as expected (1 XFAIL)" in capfd.readouterr().out
    assert cli.main(["run", "rstr-envelope"]) == 1


def test_a_run_can_stop_early_go_on_with_what_failed_and_print_the_first_cause(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = ["--", PYTHON, "-c", "", "{snapshot}", "{out}"]
    report = tmp_path / "report.jsonl"
    assert cli.main(["run", "envl", "rhll", "--jobs", "1", "--fail-fast", "--jsonl", str(report), *program]) == 1
    assert "did not run" in capfd.readouterr().out
    assert cli.main(["run", "--failed", str(report), *program]) == 1
    assert "1 of 1 case not as expected" in capfd.readouterr().out
    assert cli.main(["run", "--first", "envl-expiry-0", "visi-encrypted", *program]) == 1
    assert "more causes: run without --first" in capfd.readouterr().out
    assert cli.main(["run", "--failed", str(tmp_path / "missing"), *program]) == 2


def test_a_young_decoder_is_judged_by_what_it_does(tmp_path: Path) -> None:
    """It writes blobs, and no seal yet."""
    decode = DECODE + "os.remove(out + '/MANIFEST.json'); os.remove(out + '/CHECKSUMS')" + END
    young = replace(odd(decode), without=frozenset({"seal"}))
    assert young.lacks(BY_ID["mani-form"]) == "the profile says that the program has no seal yet"
    for name, profile, deviates in (("young", young, False), ("old", odd(decode), True)):
        (tmp_path / name).mkdir()
        judgement = judge_case(BY_ID[EASY], profile, tmp_path / name)
        assert judgement.verdict == "PASS", judgement.differences
        assert bool(judgement.deviations) == deviates
    without_bare = replace(young, without=frozenset({"bare-strings"}))
    assert without_bare.lacks(BY_ID["rstr-bare"]) == "the profile says that the program has no bare-strings yet"
    without_outcome = replace(young, without=frozenset({"outcome"}))
    assert (
        without_outcome.lacks(BY_ID["mani-outcome-counters"]) == "the profile says that the program has no outcome yet"
    )


def test_a_report_is_compared_with_an_older_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    words = ["run", "--quiet", "envl-expiry-0", "rstr-envelope", "--jsonl"]
    assert cli.main([*words, str(old), *JUDGE_COMMAND]) == 0
    assert cli.main([*words, str(new), "--", PYTHON, "-c", "", "{snapshot}", "{out}"]) == 1
    capfd.readouterr()
    assert cli.main(["compare", str(old), str(old)]) == 0
    assert "nothing changed" in capfd.readouterr().out
    assert cli.main(["compare", str(old), str(new)]) == 1
    reported = capfd.readouterr().out
    assert "broken envl-expiry-0: PASS -> FAIL (missing: string in an envelope" in reported
    assert cli.main(["compare", str(new), str(old)]) == 0
    assert "fixed envl-expiry-0: FAIL (missing: string in an envelope" in capfd.readouterr().out
    assert cli.main(["compare", str(tmp_path / "missing"), str(old)]) == 2


def test_a_clause_is_shown_with_its_cases(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "envl-8"]) == 0
    reported = capfd.readouterr().out
    assert reported.startswith("ENVL-8 · MUST · An expiry of 0 is an expiry")
    assert "\nenvl-expiry-0 " in reported


def test_a_program_that_refuses_everything_without_a_word_passes_nothing() -> None:
    cases = [case for case in CASES if case.scene.verb == "decode" and case.chapter in ("file", "outc", "rstr")]
    profile = bare_profile(["sh", "-c", "exit 1", "{snapshot}", "{out}"]).located()
    judged = judge_cases(cases, profile, 2, strict_reasons=False, on_result=lambda judgement: None)
    verdicts = Counter(each.verdict for each in judged)
    assert set(verdicts) <= {"FAIL", "UNTOLD", "UNSUPPORTED"}
    assert verdicts["UNTOLD"] > 20


def test_findings_are_compared_whatever_the_exit_status(tmp_path: Path) -> None:
    script = '"$0" -m ekvdump verify "$1" | sed s/.mismatch/[missing-file/'
    profile = replace(COMMAND, verify=("sh", "-c", script, PYTHON, "{out}"))
    judgement = judge_case(BY_ID["read-checksums-mismatch"], profile, tmp_path)
    forms = [each.form for each in judgement.differences]
    assert forms == ["whole for findings", "mismatch: missing", "missing-file: reported"]
