"""The command `ekvdump`, run as a program where that makes a difference."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command_runs import ekvdump
from ekvdump import __version__
from ekvdump.cli import arguments, commands
from ekvdump.cli import main as cli
from ekvdump.cli.text import text_of_fault
from ekvdump.verify.findings import Finding
from hypothesis import given
from hypothesis import strategies as st
from model import OUTCOMES
from patience import HANG_SECONDS
from planting import FULL
from real import unpack
from sessions import SCHEMA, VALIDATOR, run_json
from store_strategies import stores
from writer import HEADER_V1, STR, TTL, put, snapshot

REFUSALS = {
    "an empty file": (b"", 4, r"offset 0: .* \[truncated, FILE-9\]"),
    "no snapshot": (b"PK\x03\x04 an archive", 4, r"offset 0: .* \[bad-magic, FILE-8\]"),
    "a header of tomorrow": (b"EKVTHLC9" + bytes(24), 4, r"offset 7: .* \[unsupported, FILE-5\]"),
    "an ingest stream": (HEADER_V1 + b"EKVSSTI1" + bytes(8), 4, r"offset 16: .* \[unsupported, FILE-7\]"),
    "cut inside": (FULL[:-20], 4, r"\[truncated, FILE-15\]"),
    "one bit": (FULL[:60] + bytes((FULL[60] ^ 4,)) + FULL[61:], 4, r"\[footer-mismatch, FILE-18\]"),
    "a length bomb": (FULL[:32] + b"\xff" * 8 + FULL[40:], 4, r"offset 32: .* \[too-large, FILE-12\]"),
    "encrypted": (snapshot([put(STR + b"k", 1, b"", flags=2)]), 4, r'string "k"'),
    "unreadable": (snapshot([put(STR + b"k\xff", 1, b"\xff\x01")]), 4, r'string "k\\xff"'),
    "no footer": (FULL[:-4], 4, r"\[truncated, FILE-19\]"),
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = list(map(str, arguments))
    status, out, err = ekvdump(words)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(words, status, out, err)


@pytest.fixture
def snapshot_path(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(FULL)
    return path


def test_outc_7_a_complete_dump_is_0(tmp_path: Path, snapshot_path: Path) -> None:
    result = run("decode", snapshot_path, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    for words in ("entries    ", "  string   ", "strings: 2 written", "HLLs: 2 written", "out: complete"):
        assert words in result.stdout
    assert (tmp_path / "out" / "CHECKSUMS").exists()


def test_outc_7_a_partial_dump_is_3_and_says_what_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(snapshot([put(b"!ddb|item|x", 1, b"v")]))
    result = run("decode", tmp_path / "snapshot", tmp_path / "out")
    assert result.returncode == 3
    assert "undecoded-type: 1: records of a type that this version cannot show: dynamodb" in result.stdout
    assert "partial" in result.stdout


def test_outc_7_the_dump_of_a_real_store_is_complete(tmp_path: Path) -> None:
    result = run("decode", unpack("grown-clean", tmp_path), tmp_path / "out")
    assert result.returncode == 0
    for line in (
        "hashes: 34 shown; records: 330 written", "lists: 40 shown; records: 502 written, 28 unread",
        "sets: 40 shown; records: 340 written", "zsets: 36 shown; records: 428 written, 366 unread, 18 shadowed",
        "streams: 36 shown; records: 162 written",
    ):  # fmt: skip
        assert f"{line}\n" in result.stdout


def test_a_warning_says_how_many_more_there_are(tmp_path: Path) -> None:
    entries = [put(TTL + b"%02d" % n, 1, bytes(8)) for n in range(20)]
    (tmp_path / "snapshot").write_bytes(snapshot(entries))
    reported = run("decode", tmp_path / "snapshot", tmp_path / "out").stdout
    words = "warning: orphan-ttl: 20: TTL records of keys that do not exist: 00 01 02 03 04 05 06 07 and 12 more\n"
    assert words in reported


@pytest.mark.parametrize("index", ["1_0", "+1", " 1", "1.0", "-", "\u0663", "\u00b2", "2147483648", "9" * 300, ""])
def test_tree_3_what_is_no_database_index_is_a_usage_error(tmp_path: Path, snapshot_path: str, index: str) -> None:
    result = run("decode", f"--db={index}", snapshot_path, tmp_path / "out")
    assert result.returncode == 2
    assert "is not a database index: ASCII digits, at most 2147483647" in result.stderr
    assert not (tmp_path / "out").exists()


def test_tree_3_the_greatest_database_index_is_taken(tmp_path: Path, snapshot_path: str) -> None:
    assert run("decode", "--db=2147483647", snapshot_path, tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "redis" / "db_2147483647").is_dir()


def test_a_name_in_the_tree_forges_no_line_and_colours_no_terminal(tmp_path: Path, snapshot_path: str) -> None:
    forged = "x\n\x1b[32mekvdump: all is well\u202e"
    strings = tmp_path / "out" / "redis" / "db_0" / "strings"
    strings.mkdir(parents=True)
    (strings / f"{forged}.bin").touch()
    for words in (("decode", "--into-existing", snapshot_path), ("verify",)):
        lines = run(*words, tmp_path / "out").stdout.splitlines()
        assert not [
            line for line in lines if "all is well" in line and not ("stale-file" in line or "strings/" in line)
        ]
        assert all(line.isprintable() for line in lines)


def test_the_words_of_a_finding_are_escaped() -> None:
    finding = Finding("row-without-blob", "VERI-15", "\x1b[2Jé has\na row \U000e0041", None, "p")
    assert text_of_fault(finding) == "p: \\x1b[2Jé has\\na row \\U000e0041 [row-without-blob, VERI-15]"


def test_outc_7_only_what_is_wanted_is_complete(tmp_path: Path) -> None:
    entries = [put(b"!ddb|item|x", 1, b"v"), put(STR + b"k", 1, b"v")]
    (tmp_path / "snapshot").write_bytes(snapshot(entries))
    result = run("decode", "--only", "strings,hashes", tmp_path / "snapshot", tmp_path / "out")
    assert result.returncode == 0
    assert "warning" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["decode"], ["decode", "one"], ["nope"], ["decode", "a", "b", "--only", "hash"],
        ["decode", "a", "b", "--only", ""], ["decode", "a", "b", "--db", "x"],
        ["decode", "a", "b", "--wall-time", "yesterday"], ["decode", "a", "b", "--nope"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_outc_7_usage_is_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["verify", "a", "b"], "ekvdump verify: error: an argument too many: 'b'"),
        (["keys", "--prefx=a", "b"], "ekvdump keys: error: --prefx is not an option of keys: did you mean --prefix?"),
        (["get", "--salvage", "a", "b"], "ekvdump get: error: --salvage is not an option of get"),
    ],
)
def test_a_usage_error_of_a_command_shows_the_usage_of_that_command(words: list[str], wanted: str) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.startswith(f"usage: ekvdump {words[0]} ")
    assert wanted in result.stderr


@pytest.mark.parametrize("what", REFUSALS)
def test_outc_7_a_refused_snapshot_is_4_and_says_what_where_and_what_to_do(tmp_path: Path, what: str) -> None:
    data, status, words = REFUSALS[what]
    (tmp_path / "snapshot").write_bytes(data)
    result = run("decode", tmp_path / "snapshot", tmp_path / "out")
    assert result.returncode == status
    assert re.search(words, result.stderr)
    assert result.stdout == ""
    first, advice, state = result.stderr.splitlines()
    assert all(line.startswith("ekvdump: ") for line in (first, advice, state))
    untouched = not (tmp_path / "out").exists()
    assert ("was not created" in state) == untouched
    assert ("unfinished dump without a seal" in state) == (not untouched)


def test_outc_7_a_refused_tree_is_5(tmp_path: Path, snapshot_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path)
    result = run("decode", snapshot_path, tmp_path / "out")
    assert result.returncode == 5
    assert "[unsafe-path, SAFE-11]" in result.stderr
    assert str(tmp_path / "out") in result.stderr


def test_outc_7_a_full_disk_is_6(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert cli.main(["decode", str(snapshot_path), str(tmp_path / "out")]) == 6
    assert "[disk-full, SAFE-28]" in capsys.readouterr().err


def test_outc_7_other_io_is_7(tmp_path: Path) -> None:
    result = run("decode", tmp_path / "missing", tmp_path / "out")
    assert result.returncode == 7
    assert "[io-error, FILE-24]" in result.stderr


@pytest.mark.usefixtures("named_files")
def test_safe_31_every_fault_is_printed(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def stuck(path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "unlink", stuck)
    assert cli.main(["decode", str(snapshot_path), str(tmp_path / "out")]) == 6
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("[")[2].split(",")[0] for line in lines[:2]] == ["disk-full", "io-error"]


def test_what_the_caller_gives_goes_to_the_manifest(tmp_path: Path, snapshot_path: Path) -> None:
    arguments = [
        "--db",
        "5",
        "--cluster-id",
        "c1",
        "--elastickv-version",
        "v9",
        "--wall-time",
        "2026-01-02T03:04:05Z",
    ]
    assert run("decode", "--no-sync", *arguments, snapshot_path, tmp_path / "out").returncode == 0
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    assert manifest["cluster_id"] == "c1"
    assert manifest["elastickv_version"] == "v9"
    assert manifest["wall_time_iso"] == "2026-01-02T03:04:05Z"
    assert manifest["adapters"]["redis"] == {"databases": [5]}
    assert manifest["source"]["fsm_path"] == str(snapshot_path)


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == run("-V").stdout == f"ekvdump {__version__}\n"


EXITS = {
    "": sorted(OUTCOMES["exit"].values()), "decode": [0, 2, 3, 4, 5, 6, 7, 130], "inspect": [0, 2, 4, 6, 7, 130],
    "verify": [0, 1, 2, 5, 6, 7, 130], "explain": [0, 1, 2, 4, 6, 7, 130], "get": [0, 1, 2, 4, 5, 6, 7, 130],
    "keys": [0, 1, 2, 3, 4, 5, 6, 7, 130], "resp": [0, 1, 2, 3, 4, 5, 6, 7, 130],
    "diff": [0, 1, 2, 3, 4, 5, 6, 7, 130],
}  # fmt: skip
"""Command = the exit statuses that it can have."""


def test_the_command_line_names_the_commands_that_there_are() -> None:
    assert set(arguments.COMMANDS) == set(commands.COMMANDS) == set(EXITS) - {""}


@pytest.mark.parametrize("command", EXITS)
@pytest.mark.parametrize("word", ["--help", "help"])
def test_help_has_an_example_and_the_exit_statuses(command: str, word: str) -> None:
    words = [command] if command else []
    result = run(word, *words) if word == "help" else run(*words, word)
    assert result.returncode == 0
    reported = result.stdout.split("exit status:")[1]
    assert [int(line.split()[0]) for line in reported.splitlines() if line.strip()] == EXITS[command]
    assert re.search(r"^examples?:\n  (ekvdump|\()", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish", "powershell"])
def test_completion_is_printed_for_a_shell(shell: str) -> None:
    result = run("--print-completion", shell)
    assert result.returncode == 0
    assert "ekvdump" in result.stdout
    assert "into-existing" in result.stdout
    offered = {"bash": "_shtab_compgen_files", "zsh": '":the .fsm file:_files"'}
    assert offered.get(shell, "") in result.stdout


def test_completion_of_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(run("--print-completion", "bash").stdout)
    program = "source completion; COMP_WORDS=(ekvdump decode --in); COMP_CWORD=2; _shtab_ekvdump; echo ${COMPREPLY[@]}"
    reported = subprocess.run(["bash", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert reported.stdout == "--into-existing\n"


@pytest.mark.parametrize("words", ["verify sn", "inspect sn", "decode sn", "decode a sn"])
def test_completion_of_bash_offers_files_and_directories(tmp_path: Path, words: str) -> None:
    (tmp_path / "completion").write_text(run("--print-completion", "bash").stdout)
    (tmp_path / "snapshots").mkdir()
    count = len(words.split())
    program = (
        f"source completion; COMP_WORDS=(ekvdump {words}); COMP_CWORD={count}; _shtab_ekvdump; echo ${{COMPREPLY[@]}}"
    )
    reported = subprocess.run(["bash", "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (reported.stdout, reported.stderr) == ("snapshots\n", "")


def test_arguments_in_the_wrong_order_are_noticed(tmp_path: Path, snapshot_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = run("decode", tmp_path / "out", snapshot_path)
    assert result.returncode == 5
    assert "are the arguments in order?" in result.stderr
    assert "remove" not in result.stderr


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["decode", "--quiet", str(snapshot_path), str(tmp_path / "out")]) == 0
    real = os.open

    def denied(path: str, *arguments: Any, **keywords: Any) -> int:
        if path == "CHECKSUMS":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", denied)
    assert run_json("verify", tmp_path / "out")["faults"][0]["path"] == str(tmp_path / "out" / "CHECKSUMS")


def test_the_module_is_the_command(tmp_path: Path, snapshot_path: Path) -> None:
    for command in ([sys.executable, "-m", "ekvdump"], [str(Path(sys.executable).parent / "ekvdump")]):
        words = [*command, "decode", str(snapshot_path), str(tmp_path / "out")]
        first, second = (
            subprocess.run(words, check=False, capture_output=True, timeout=HANG_SECONDS) for _ in range(2)
        )
        assert (first.returncode, first.stderr) == (0, b"")
        assert second.returncode == 5
        assert (tmp_path / "out" / "CHECKSUMS").exists()
        shutil.rmtree(tmp_path / "out")


# ---- inspect and verify ----


def test_inspect_says_what_is_in_a_snapshot(tmp_path: Path) -> None:
    result = run("inspect", unpack("grown", tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    for words in (
        "version 1", "sound, CRC-32C 62963293", "may run some seconds ahead of the wall clock", "!redis|txn-wide-hash|",
        "2491 in the file, 2512 (hexadecimal 9d0) in its name",
        "tombstones among them: 2659", "values that no client could read: 10", "(bare)",
    ):  # fmt: skip
        assert words in result.stdout


def test_inspect_marks_the_place_of_a_refusal(tmp_path: Path) -> None:
    result = run("inspect", unpack("encrypted", tmp_path))
    assert result.returncode == 4
    assert "refused at offset 905" in result.stdout
    assert "encrypted entries: 239" in result.stdout
    assert re.search(r", offset 905, .* \[encrypted, VISI-5\]", result.stderr)
    (tmp_path / "short").write_bytes(FULL[:20])
    result = run("inspect", tmp_path / "short")
    assert result.returncode == 4
    assert "[truncated, FILE-9]" in result.stderr


# ---- options ----


def test_safe_22_no_sync_switches_the_sync_off(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("ekvdump.filesystem.tree_writer.flush_file_system", synced.append)
    assert cli.main(["decode", "--quiet", str(snapshot_path), str(tmp_path / "one")]) == 0
    assert len(synced) == 1
    assert cli.main(["decode", "--quiet", "--no-sync", str(snapshot_path), str(tmp_path / "two")]) == 0
    assert len(synced) == 1


def test_mani_4_without_a_time_it_is_that_of_the_run(tmp_path: Path, snapshot_path: Path) -> None:
    times = []
    for name in ("one", "two"):
        assert cli.main(["decode", "--quiet", str(snapshot_path), str(tmp_path / name)]) == 0
        times.append(json.loads((tmp_path / name / "MANIFEST.json").read_text())["wall_time_iso"])
    assert times[0] < times[1]


def test_file_24_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert run("inspect", tmp_path / "fifo").returncode == 7


def test_safe_7_by_path_gives_the_same_dump_with_a_warning(
    tmp_path: Path, snapshot_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("decode", "--by-path", snapshot_path, tmp_path / "out")
    assert result.returncode == 0
    assert "warning: unguarded-writes: 1: " in result.stdout
    with monkeypatch.context() as patch:
        patch.setattr("ekvdump.filesystem.reading.HandleDirectory", None)
        assert run("verify", "--by-path", tmp_path / "out").returncode == 0
    reported = json.loads(run("decode", "--json", "--by-path", snapshot_path, tmp_path / "two").stdout)
    assert [warning["name"] for warning in reported["warnings"]] == ["unguarded-writes"]


# ---- one object for machines ----


def test_the_schema_is_a_schema_and_refuses_what_is_not_said() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({})


def test_comp_7_the_schema_has_the_names_of_the_companions() -> None:
    definitions = SCHEMA["$defs"]
    assert definitions["fault"]["properties"]["fault"]["enum"] == list(OUTCOMES["faults"])
    assert definitions["warning"]["properties"]["name"]["enum"] == list(OUTCOMES["warnings"])
    assert definitions["entries"]["required"] == OUTCOMES["counters"]["entries"]
    groups = {group: names for group, names in OUTCOMES["counters"].items() if group != "entries"}
    counters = definitions["counters"]["properties"] | {"collections": definitions["collections"]}
    assert {group: counters[group]["required"] for group in groups} == groups


def test_an_object_for_every_end_of_decode(tmp_path: Path, snapshot_path: Path) -> None:
    reported = run_json("decode", snapshot_path, tmp_path / "out")
    assert (reported["exit_status"], reported["complete"], reported["out_state"]) == (0, True, "sealed")
    assert reported["counters"]["strings"]["written"] == 2
    reported = run_json("decode", snapshot_path, tmp_path / "out")
    assert (reported["exit_status"], reported["complete"], reported["out_state"]) == (5, None, "untouched")
    (fault,) = reported["faults"]
    assert (fault["fault"], fault["clause"], fault["path"]) == ("not-empty", "SAFE-1", str(tmp_path / "out"))
    reported = run_json("decode", unpack("grown", tmp_path), tmp_path / "two")
    assert (reported["exit_status"], reported["out_state"]) == (4, "unfinished")
    assert reported["faults"][0]["key"] == "IXJlZGlzfHN0cnxnMTolNDE"
    reported = run_json("decode", "--salvage", unpack("grown", tmp_path), tmp_path / "three")
    assert (reported["exit_status"], reported["complete"]) == (3, False)
    assert reported["partial_reasons"][-1] == {"reason": "unreadable-value", "about": "redis/db_0", "count": 10}


def test_an_object_for_every_end_of_inspect_and_verify(tmp_path: Path, snapshot_path: Path) -> None:
    assert run_json("inspect", snapshot_path)["entries"]["string"] == 2
    reported = run_json("inspect", unpack("encrypted", tmp_path))
    assert (reported["faulty_entries"], [fault["clause"] for fault in reported["faults"]]) == (239, ["VISI-5"])
    assert run_json("inspect", tmp_path / "missing")["faults"][0]["clause"] == "FILE-24"
    run_json("decode", snapshot_path, tmp_path / "out")
    assert run_json("verify", tmp_path / "out")["counts"] == {}
    (tmp_path / "out" / "a\\b\udcff").touch()
    reported = run_json("verify", tmp_path / "out")
    assert reported["counts"] == {"foreign-file": 1}
    assert reported["findings"][0]["path"] == "a\\\\b\\xff"
    assert run_json("verify", tmp_path / "missing")["exit_status"] == 7


def test_an_object_for_a_command_line_that_makes_no_sense() -> None:
    assert run_json("decode") == {
        "command": None, "ekvdump_version": __version__, "exit_status": 2, "faults": [],
        "usage": "the following arguments are required: SNAPSHOT, OUT",
    }  # fmt: skip
    assert run_json("nope")["exit_status"] == 2


def test_veri_19_at_most_1000_findings_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "CHECKSUMS").write_bytes(b"".join(b"%064d  %04d\n" % (n, n) for n in range(1234)))
    reported = run_json("verify", tmp_path / "out")
    assert reported["counts"] == {"missing-file": 1234, "no-manifest": 1}
    assert len(reported["findings"]) == 1000


@given(
    st.one_of(
        st.binary(max_size=80),
        stores().map(snapshot),
        st.builds(lambda entries, cut: snapshot(entries)[: -cut or None], stores(), st.integers(0, 60)),
    ),
    st.lists(
        st.sampled_from(["--salvage", "--only=hll", "--into-existing", "--db=2", "--by-path", "--quiet"]), unique=True
    ),
)
def test_conv_9_any_input_gives_an_object_that_the_schema_describes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, options: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("json")
    (directory / "snapshot").write_bytes(data)
    inspected = run_json("inspect", directory / "snapshot")
    decoded = run_json("decode", "--no-sync", *options, directory / "snapshot", directory / "out")
    if inspected["exit_status"]:
        assert inspected["faults"]
        assert decoded["faults"] == inspected["faults"]
        assert decoded["out_state"] == "untouched"
    if decoded["out_state"] == "sealed":
        assert run_json("verify", directory / "out")["counts"] == {}
        assert decoded["counters"]["entries"] == inspected["entries"]
