"""The commands get, keys, resp and diff, as their users see them."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_runs import ekvdump
from ekvdump.cli.main import main
from planting import FULL
from sessions import VALIDATOR
from terminals import Terminal
from writer import HLL, STR, TTL, Entry, delete, envelope, expiry, put, snapshot

PAST_MS = 1_700_000_000_000
MEMBERS = b"\0RS\1\x0a\x02m1\x0a\x02m2"
STORE: list[Entry] = [
    put(STR + b"user:1", 1, envelope(1, b"one")),
    put(STR + b"user:2", 1, envelope(1, b"two\n", PAST_MS)),
    put(STR + b"user:\0", 1, b"\xff"),
    put(STR + b"gone", 2, b"x"),
    delete(STR + b"gone", 3),
    put(HLL + b"page", 1, MEMBERS),
    put(TTL + b"page", 1, expiry(2**62)),
]
COUNTS = dict.fromkeys(("string", "hll", "hash", "list", "set", "zset", "stream"), 0)
TABLE = put(b"!ddb|item|h", 1, b"")
UNREADABLE = put(STR + b"bad", 1, b"\xff\x01")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "snapshot.fsm", STORE)


def write(path: Path, entries: list[Entry]) -> str:
    path.write_bytes(snapshot(entries))
    return str(path)


@pytest.fixture
def dump(tmp_path: Path, path: str) -> str:
    return decoded(path, tmp_path / "dump")


def decoded(path: str, out: Path, *options: str) -> str:
    assert ekvdump(["decode", "--no-sync", "--quiet", *options, path, str(out)])[0] in (0, 3)
    return str(out)


@pytest.fixture(params=["snapshot", "dump"])
def source(request: pytest.FixtureRequest, path: str, dump: str) -> str:
    return path if request.param == "snapshot" else dump


def run(*words: str) -> tuple[int, str, str]:
    status, out, err = ekvdump(words)
    assert "Traceback" not in err
    return status, out, err


def json_of(*words: str) -> tuple[int, list[dict[str, Any]]]:
    status, out, _ = run(*words)
    rendered = [json.loads(line) for line in out.splitlines()]
    for each in rendered:
        VALIDATOR.validate(each)
    assert rendered[-1]["exit_status"] == status
    return status, rendered


def run_binary(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "ekvdump", *words], capture_output=True, check=False)


# ---- get ----


def test_get_prints_the_bytes_of_the_value(source: str) -> None:
    for word, value in (("user:1", b"one"), ("user:2", b"two\n"), (r'"user:\x00"', b"\xff"), ("page", MEMBERS)):
        result = run_binary("get", source, word)
        assert (result.returncode, result.stdout, result.stderr) == (0, value, b"")


def test_get_says_what_kind_of_key_it_is(source: str) -> None:
    status, (rendered,) = json_of("get", "--json", source, "page")
    assert (status, rendered["source"]) == (0, source)
    assert rendered["key"] == {
        "key": "page", "key_base64url": "cGFnZQ", "type": "hll", "size": len(MEMBERS), "expire_at_ms": 2**62,
    }  # fmt: skip


@pytest.mark.parametrize("words", [["gone"], ["--type=hll", "user:1"], ["user:\\x00"]])
def test_a_key_that_is_not_there_is_1(source: str, words: list[str]) -> None:
    status, out, err = run("get", source, *words)
    assert (status, out) == (1, "")
    what = "HLL" if len(words) > 1 else "key"
    assert err == f"ekvdump: {source} holds no {what} {shlex.quote(words[-1])}\n"
    status, (rendered,) = json_of("get", "--json", source, *words)
    assert (status, rendered["key"]) == (1, None)


def test_a_key_that_may_be_of_another_type_is_not_called_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.fsm", [TABLE, *STORE])
    assert run("get", path, "h") == (
        1,
        "",
        f"ekvdump: {path} holds no key h; not shown: 1 record of type dynamodb\n",
    )
    partial = decoded(path, tmp_path / "partial")
    err = run("get", partial, "h")[2]
    assert (
        err
        == f"ekvdump: {partial} holds no key h; not shown: the dump is partial, as `outcome` in MANIFEST.json says\n"
    )


def test_an_unreadable_value_names_the_key(tmp_path: Path) -> None:
    status, out, err = run("get", write(tmp_path / "bad.fsm", [UNREADABLE]), "bad")
    assert (status, out) == (4, "")
    assert 'string "bad"' in err
    assert "[invalid-value, ENVL-4]" in err


def test_get_compares_one_file_of_a_dump_with_its_line(dump: str) -> None:
    blob = Path(dump, "redis/db_0/strings/user%3A1.bin")
    blob.write_bytes(b"changed")
    status, _, err = run("get", dump, "user:1")
    assert status == 1
    assert "[mismatch, READ-33]" in err
    assert run("get", "--no-verify", dump, "user:1")[:2] == (0, "changed")
    assert run("get", dump, "user:2")[:2] == (0, "two\n")
    Path(dump, "redis/db_0/strings/new.bin").write_bytes(b"")
    assert "[foreign-file, VERI-5]" in run("get", dump, "new")[2]
    assert run("get", "--json", dump, "user:2")[0] == 0
    sidecar = Path(dump, "redis/db_0/strings_ttl.jsonl")
    sidecar.write_bytes(sidecar.read_bytes().replace(b"17", b"18", 1))
    assert "strings_ttl.jsonl: the file has" in run("get", "--json", dump, "user:2")[2]
    sidecar.unlink()
    assert "[missing-file, READ-31]" in run("get", dump, "user:2")[2]
    Path(dump, "CHECKSUMS").unlink()
    for word in ("user:2", "nobody"):
        assert "[no-seal, VERI-3]" in run("get", dump, word)[2]


def test_a_key_whose_file_is_gone_is_not_called_absent(dump: str) -> None:
    Path(dump, "redis/db_0/strings/user%3A1.bin").unlink()
    status, _, err = run("get", dump, "user:1")
    assert status == 1
    assert "[missing-file, READ-31]" in err


@pytest.mark.parametrize(
    "words", [["get", "DIR", "k"], ["keys", "DIR"], ["keys", "--no-verify", "DIR"], ["resp", "DIR"]]
)
def test_veri_24_a_directory_that_is_not_a_dump_is_called_that(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    status, out, err = run(*(str(tmp_path / "photos") if word == "DIR" else word for word in words))
    assert (status, out) == (1, "")
    assert "this is not a dump" in err or "[no-manifest, VERI-4]" in err


def test_an_unfinished_dump_that_is_read_all_the_same_is_3(dump: str) -> None:
    Path(dump, "CHECKSUMS").unlink()
    status, _, err = run("keys", "--no-verify", dump)
    assert (status, err) == (3, "ekvdump: not shown: the dump has no CHECKSUMS, so it is not whole\n")


def test_a_part_says_that_it_is_one(tmp_path: Path, path: str) -> None:
    part = str(tmp_path / "part")
    status, out, _ = run("decode", "--no-sync", "--key=user:1", path, part)
    assert (status, out.splitlines()[-1]) == (0, f"{part}: complete, as the part that it is")
    assert run("verify", part)[1] == f"{part}: 3 files, whole, and complete, as the part that it is\n"
    assert run("get", part, "user:1")[1] == "one"
    assert "the dump is a part of a store" in run("get", part, "user:2")[2]
    status, _, err = run("diff", path, part)
    assert (status, err) == (1, "ekvdump: not compared: in B, the dump is a part of a store\n")
    end = json_of("diff", "--json", path, part)[1][-1]
    assert end["omitted"] == [{"name": "part", "count": 1, "about": "in B, the dump is a part of a store"}]
    status, out, _ = run("decode", "--no-sync", "--key=nobody", path, str(tmp_path / "none"))
    assert (status, out.splitlines()[-2]) == (0, "no key that was wanted is there")


def test_the_key_in_the_place_of_the_snapshot_is_noticed(path: str) -> None:
    status, _, err = run("get", "user:1", path)
    assert status == 7
    assert f"The snapshot comes first: ekvdump get {path} KEY" in err


def test_a_word_that_is_half_a_notation_is_a_usage_error(path: str) -> None:
    for words in (["get", path, '"a'], ["keys", path, '"'], ["keys", path, "--prefix", '"\\xff']):
        assert run(*words)[0] == 2
    status, _, err = run("get", path, '"a"b"')
    assert status == 2
    assert 'is not a key as redis-cli shows it: a double quote inside the quotes is written \\"' in err


# ---- keys ----


def test_keys_lists_type_size_expiry_and_key(source: str) -> None:
    status, out, err = run("keys", source)
    assert (status, err) == (0, "")
    assert out == (
        f"hll    {len(MEMBERS):>12} 4611686018427387904 ms after 1970 page\n"
        "string            1 -                        '\"user:\\x00\"'\n"
        "string            3 -                        user:1\n"
        "string            4 2023-11-14T22:13:20.000Z user:2\n"
    )


def test_each_key_can_be_pasted(path: str) -> None:
    for line in run("keys", path)[1].splitlines():
        size, word = int(line.split()[1]), shlex.split(line)[-1]
        assert len(run_binary("get", path, word).stdout) == size


def test_keys_for_programs(source: str) -> None:
    assert run("keys", "--null", source)[1] == 'page\0"user:\\x00"\0user:1\0user:2\0'
    status, (*lines, end) = json_of("keys", "--json", source)
    assert status == 0
    assert [line["key"] for line in lines] == ["page", r'"user:\x00"', "user:1", "user:2"]
    assert (end["counts"], end["omitted"]) == (COUNTS | {"string": 3, "hll": 1}, [])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["user:[12]"], ["user:1", "user:2"]),
        (["--prefix", "user:", "*\\?"], []),
        (["--prefix", r'"user:\x00"'], [r'"user:\x00"']),
        (["--type", "hll"], ["page"]),
    ],
)
def test_keys_that_are_selected(source: str, words: list[str], wanted: list[str]) -> None:
    _, (*lines, _) = json_of("keys", "--json", source, *words)
    assert [line["key"] for line in lines] == wanted


def test_what_is_not_listed_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.fsm", [TABLE, UNREADABLE, put(b"!nobody|knows|", 1, b""), *STORE])
    status, out, err = run("keys", path)
    assert status == 3
    assert len(out.splitlines()) == 4
    assert err == (
        "ekvdump: not shown: 1 record of type dynamodb; 1 record of type unknown; "
        "1 key with a value that no client could read: bad\n"
    )
    status, (*_, end) = json_of("keys", "--json", path)
    names = [each["name"] for each in end["omitted"]]
    assert (status, names) == (3, ["undecoded-type", "unknown-prefix", "unreadable-value"])
    # A caller who names a type does not want the others. [COMP-1]
    assert run("keys", "--type=hll", path)[::2] == (0, "")
    assert run("keys", "--quiet", path)[::2] == (3, "")
    partial = decoded(path, tmp_path / "partial", "--salvage")
    status, _, err = run("keys", partial)
    assert status == 3
    assert err == "ekvdump: not shown: the dump is partial, as `outcome` in MANIFEST.json says\n"


def test_a_snapshot_is_judged_whole_before_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "cut.fsm"
    path.write_bytes(FULL[:-1])
    for words in (["keys"], ["resp"], ["keys", "--json"], ["diff", "--json", str(path)]):
        status, out, err = run(*words, str(path))
        assert status == 4
        assert "--json" in words or out == ""
        assert f"ekvdump: {path}, offset 480: only 3 of 8 bytes" in err


def test_a_dump_that_does_not_verify_is_refused_unless_told_otherwise(dump: str) -> None:
    Path(dump, "redis/db_0/strings/user%3A1.bin").write_bytes(b"ONE")
    for command in ("keys", "resp"):
        status, out, err = run(command, dump)
        assert (status, out) == (1, "")
        assert "[mismatch, READ-33]" in err
        assert f"ekvdump verify {dump}" in err
        assert "--no-verify" in err
    assert run("diff", dump, dump)[0] == 1
    assert run("resp", "--no-verify", "--quiet", dump)[0] == 0


def test_one_of_several_databases_is_named(tmp_path: Path, path: str, dump: str) -> None:
    decoded(path, Path(dump), "--db=3", "--into-existing")
    status, out, err = run("keys", dump)
    assert (status, out) == (2, "")
    assert err == f"ekvdump: {dump}: the dump holds several databases (0, 3): name one with --db\n"
    status, (rendered,) = json_of("keys", "--json", dump)
    assert (status, rendered["command"]) == (2, "keys")
    assert len(run("keys", "--db=3", dump)[1].splitlines()) == 4
    status, out, err = run("keys", "--db=7", dump)
    assert (status, out, err) == (2, "", f"ekvdump: {dump}: the dump holds no database 7, but 0, 3\n")
    assert run("diff", "--db=3", dump, path) == (0, "no difference\n", "")


def test_an_empty_dump_holds_no_keys(tmp_path: Path) -> None:
    assert run("keys", decoded(write(tmp_path / "empty.fsm", []), tmp_path / "empty")) == (0, "", "")


# ---- resp ----


def test_resp_prints_commands_and_counts(source: str) -> None:
    result = run_binary("resp", source)
    assert result.stdout == (
        b"*2\r\n$3\r\nDEL\r\n$4\r\npage\r\n"
        b"*4\r\n$5\r\nPFADD\r\n$4\r\npage\r\n$2\r\nm1\r\n$2\r\nm2\r\n"
        b"*3\r\n$9\r\nPEXPIREAT\r\n$4\r\npage\r\n$19\r\n4611686018427387904\r\n"
        b"*3\r\n$3\r\nSET\r\n$6\r\nuser:\0\r\n$1\r\n\xff\r\n"
        b"*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$3\r\none\r\n"
    )
    assert result.stderr == b"ekvdump: 1 HLL sent; 2 strings sent; 1 key skipped, because the expiry has passed\n"
    assert result.returncode == 0


def test_resp_sends_what_has_expired_if_told_to(source: str) -> None:
    result = run_binary("resp", "--expired=send", "--prefix=user:2", "--nx", "--quiet", source)
    assert result.stdout == (
        b"*6\r\n$3\r\nSET\r\n$6\r\nuser:2\r\n$4\r\ntwo\n\r\n$4\r\nPXAT\r\n$13\r\n1700000000000\r\n$2\r\nNX\r\n"
    )
    assert (result.returncode, result.stderr) == (0, b"")


def test_resp_of_one_key_sends_no_other(source: str) -> None:
    assert run_binary("resp", "--key=user:1", source).stdout == b"*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$3\r\none\r\n"


def test_resp_judges_expiries_by_the_clock(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for now_ms, count in ((PAST_MS - 1, 1), (PAST_MS, 0)):
        monkeypatch.setattr(time, "time_ns", lambda now_ms=now_ms: now_ms * 1_000_000)
        assert run("resp", "--prefix=user:2", path)[1].count("SET") == count


def test_resp_selects_a_database(tmp_path: Path, path: str) -> None:
    select = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"
    in_three = decoded(path, tmp_path / "three", "--db=3")
    for words, begins in (
        ([path], False), (["--db=3", path], True), ([in_three], True), (["--db=3", in_three], True),
    ):  # fmt: skip
        result = run_binary("resp", *words)
        assert result.stdout.startswith(select.encode()) == begins
        assert b"page" in result.stdout
    assert run_binary("resp", "--db=0", path).stdout.startswith(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    # The database of the server is that of the dump, unless the caller names one.
    assert run_binary("resp", "--select=5", in_three).stdout.startswith(b"*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n")


def test_resp_that_cannot_send_everything_is_3(tmp_path: Path) -> None:
    both = [put(STR + b"k", 1, b"v"), put(HLL + b"sketch", 1, b"HYLL")]
    status, _, err = run("resp", write(tmp_path / "both.fsm", both))
    assert status == 3
    assert err == ("ekvdump: 1 string sent; 1 HLL skipped, because it is not stored as a set of members\n")


def test_resp_does_not_print_to_a_terminal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", errors := Terminal())
    assert main(["resp", path]) == 2
    assert terminal.getvalue() == ""
    assert "redis-cli --pipe" in errors.getvalue()


# ---- diff ----


@pytest.fixture
def other(tmp_path: Path) -> str:
    return write(
        tmp_path / "other.fsm",
        [
            put(STR + b"user:1", 1, envelope(1, b"three", 5)),
            put(STR + b"user:2", 1, envelope(1, b"two\n", PAST_MS + 1)),
            put(HLL + b"new", 1, MEMBERS),
            put(HLL + b"page", 1, MEMBERS),
            put(TTL + b"page", 1, expiry(2**62)),
        ],
    )


def test_diff_of_the_same_is_0(source: str, path: str) -> None:
    assert run("diff", path, source) == (0, "no difference\n", "")
    assert run("diff", "--quiet", path, source) == (0, "", "")


def test_diff_says_what_differs_in_each_key(source: str, other: str) -> None:
    status, out, err = run("diff", source, other)
    assert (status, err) == (1, "")
    assert out == (
        "only in B    hll    new\n"
        "only in A    string '\"user:\\x00\"'\n"
        "other value  string user:1  3 -> 5 bytes, no expiry -> 1970-01-01T00:00:00.005Z\n"
        "other expiry string user:2  2023-11-14T22:13:20.000Z -> 2023-11-14T22:13:20.001Z\n"
        "string: 1 only in A, 1 other value, 1 other expiry\n"
        "hll: 1 only in B\n"
    )
    assert run("diff", "--quiet", source, other) == (1, "", "")
    assert run("diff", "--type=hll", "--prefix=page", source, other)[0] == 0
    assert run("diff", "--key=page", source, other)[0] == 0
    assert run("diff", "--key=user:1", source, other)[1].splitlines()[-1] == "string: 1 other value"


def test_diff_for_programs(path: str, other: str) -> None:
    status, (*lines, end) = json_of("diff", "--json", path, other)
    assert status == 1
    assert [(line["difference"], line["key"]) for line in lines] == [
        ("added", "new"), ("removed", r'"user:\x00"'), ("value", "user:1"), ("expiry", "user:2"),
    ]  # fmt: skip
    assert lines[2]["before"] == {"size": 3, "expire_at_ms": None}
    assert lines[2]["after"] == {"size": 5, "expire_at_ms": 5}
    assert end["counts"]["string"] == {"added": 0, "removed": 1, "value": 1, "expiry": 1}


def test_diff_that_could_not_compare_everything_is_3(tmp_path: Path, path: str) -> None:
    mixed = write(tmp_path / "mixed.fsm", [TABLE, *STORE])
    status, out, err = run("diff", path, mixed)
    assert (status, out) == (3, "no difference in what can be shown\n")
    assert err == "ekvdump: not compared: in B, 1 record of type dynamodb\n"


# ---- streams ----


@pytest.mark.parametrize(("command", "status"), [("keys", 0), ("resp", 7)])
def test_a_reader_that_has_seen_enough_is_no_error_but_for_a_restore(command: str, status: int, tmp_path: Path) -> None:
    path = write(tmp_path / "many.fsm", [put(STR + b"%06d" % number, 1, b"v" * 100) for number in range(20_000)])
    with subprocess.Popen(
        [sys.executable, "-m", "ekvdump", command, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert (b"cannot print the answer: Broken pipe" in process.stderr.read()) == (command == "resp")
    assert process.returncode == status


@pytest.mark.parametrize("words", [["get", "PATH", "user:1"], ["keys", "PATH"], ["resp", "PATH"]])
def test_an_answer_for_which_there_is_no_space_is_6(words: list[str], path: str) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "ekvdump", *(path if word == "PATH" else word for word in words)],
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert result.returncode == 6
    assert b"cannot print the answer: No space left on device" in result.stderr


def test_nothing_is_written_and_nothing_is_left_open(path: str, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path)), len(os.listdir("/proc/self/fd"))
    for words in (["get", path, "page"], ["keys", path], ["resp", path], ["diff", path, path]):
        run(*words)
    assert (sorted(os.listdir(tmp_path)), len(os.listdir("/proc/self/fd"))) == before
