"""Chapter OUTC: faults, warnings, counters, partial dumps."""

import pickle
import re
import string
import subprocess
from pathlib import Path

import pytest
from command_runs import decode_bytes
from ekvdump.cli.advice import ADVICE, advice_for
from ekvdump.cli.text import printable_path, text_of_fault, text_of_key
from ekvdump.engine.first_pass import FirstPass, run_first_pass
from ekvdump.engine.outputs import shown_count, value_count
from ekvdump.engine.source import Source
from ekvdump.verify.findings import FINDINGS, Finding
from ekvexplain.pieces import printable
from ekvformat.completeness import Counters
from ekvformat.outcomes import FAULTS, Fault
from hypothesis import given
from hypothesis import strategies as st
from writer import STR, put, snapshot

ROOT = Path(__file__).resolve().parents[2]


def test_outc_1_a_refusal_names_fault_clause_place_and_key() -> None:
    fault = Fault("truncated", "FILE-15", "value is cut", 42, None, b"k\xff")
    assert text_of_fault(fault) == 'offset 42, string "k\\xff": value is cut [truncated, FILE-15]'
    assert text_of_fault(fault, "s.fsm") == 's.fsm, offset 42, string "k\\xff": value is cut [truncated, FILE-15]'
    fault = Fault("truncated", "FILE-22", "words", None, "/tmp/a b")
    assert text_of_fault(fault, "s.fsm") == "'/tmp/a b': words [truncated, FILE-22]"
    fault = Fault("truncated", "FILE-22", "words", 7, "/tmp/a", b"k")
    assert text_of_fault(fault) == '/tmp/a, offset 7, string "k": words [truncated, FILE-22]'
    assert text_of_fault(Fault("truncated", "FILE-22", "words")) == "words [truncated, FILE-22]"


def test_keys_1_a_key_is_named_as_its_users_know_it() -> None:
    assert text_of_key(b"!redis|str|a") == text_of_key(b"a") == 'string "a"'
    assert text_of_key(b"!redis|hll|a") == 'HLL "a"'
    assert text_of_key(b"!redis|ttl|a") == 'TTL record of "a"'
    assert text_of_key(b"!hs|meta|a") == 'key "!hs|meta|a"'
    assert text_of_key(b"!new|a") == 'key "!new|a"'


def test_comp_9_the_sums_of_counters_are_of_what_they_say() -> None:
    counters = Counters()
    counters.entries.update(string=1, bare=20, hll=300, ttl=4000)
    counters.strings.update(written=5, shadowed=60, excluded=700, unreadable=8000)
    counters.hlls.update(written=20, excluded=300, unreadable=40_000)
    counters.ttls.update(applied=7, unreadable=900_000)
    assert (shown_count(counters), value_count(counters)) == (25, 321)


def test_outc_1_a_fault_survives_pickling() -> None:
    fault = pickle.loads(pickle.dumps(Fault("truncated", "FILE-15", "cut", 42, "p", b"k")))
    assert isinstance(fault, Fault)
    assert fault.args == ("truncated", "FILE-15", "cut", 42, "p", b"k")
    assert (fault.name, fault.clause, fault.detail) == ("truncated", "FILE-15", "cut")
    assert (fault.offset, fault.path, fault.key) == (42, "p", b"k")


def test_outc_6_the_output_directory_is_judged_again_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(source: Source) -> FirstPass:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").touch()
        return run_first_pass(source)

    monkeypatch.setattr("ekvdump.run.run_first_pass", meanwhile)
    with pytest.raises(Fault, match=r"\[not-empty, ") as caught:
        decode_bytes(snapshot([put(STR + b"k", 1, b"v")]), tmp_path)
    assert caught.value.clause == "SAFE-1"


def test_outc_8_the_exit_status_is_that_of_the_first_fault() -> None:
    fault = Fault("disk-full", "SAFE-28", "full")
    fault.also = (Fault("io-error", "SAFE-29", "broken"),)
    assert fault.exit_status == 6


def test_comp_9_every_name_is_there_and_in_order() -> None:
    counters = Counters()
    assert list(counters.undecoded) == ["dynamodb", "s3", "sqs"]
    assert set(counters.undecoded.values()) == {0}


@given(st.binary(max_size=300))
def test_keys_are_shown_so_that_they_can_be_pasted_back(key: bytes) -> None:
    shown = printable(key)
    head = shown.split('" and ')[0].strip('"')
    assert head.isascii()
    assert head.encode().decode("unicode_escape").encode("latin-1") == key[:200]
    assert (" bytes more" in shown) == (len(key) > 200)


LETTERS = (string.ascii_letters + string.digits + string.punctuation + " ").encode()


def test_every_byte_of_a_key_is_shown_as_redis_cli_shows_it() -> None:
    for byte in range(256):
        shown = chr(byte) if byte in LETTERS else f"\\x{byte:02x}"
        shown = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 13: r"\r", 0x22: r"\"", 0x5C: "\\\\"}.get(byte, shown)
        assert printable(bytes((byte,))) == f'"{shown}"'


def test_every_byte_of_a_path_is_shown_as_it_is_or_as_hex() -> None:
    shown = "".join(chr(byte) if byte in LETTERS and byte not in b"'\\" else f"\\x{byte:02x}" for byte in range(128))
    assert printable_path(bytes(range(128)).decode()) == f"$'{shown}'"


def test_a_long_key_is_cut_and_says_so() -> None:
    assert printable(b"k" * 200) == '"' + "k" * 200 + '"'
    assert printable(b"k" * 201) == '"' + "k" * 200 + '" and 1 bytes more'


def test_paths_are_shown_so_that_they_can_be_pasted_back() -> None:
    assert printable_path("plain/é") == "plain/é" or printable_path("plain/é") == "'plain/é'"
    assert printable_path("a b") == "'a b'"
    assert printable_path("a\n\udcff'") == "$'a\\x0a\\xff\\x27'"


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_a_path_that_is_pasted_into_bash_is_that_path(name: bytes) -> None:
    shown = printable_path(name.decode("utf-8", "surrogateescape"))
    command = ["bash", "-c", f"printf %s {shown}"]
    assert subprocess.run(command, check=True, capture_output=True, env={"LC_ALL": "C.UTF-8"}).stdout == name


def test_every_fault_has_a_name_an_exit_status_and_advice() -> None:
    faults = [*(Fault(name, "", "") for name in FAULTS), *(Finding(name, "", "") for name in FINDINGS)]
    assert len({fault.name for fault in faults}) == 45
    assert {fault.name for fault in faults} >= set(ADVICE)
    assert all(advice_for(fault) and fault.exit_status for fault in faults)


def test_every_finding_is_in_the_table_and_can_be_found() -> None:
    folders = [ROOT / "command" / "ekvdump" / name for name in ("verify", "queries")]
    texts = [path.read_text() for folder in folders for path in folder.glob("*.py")]
    used = {name for text in texts for name in re.findall(r"""(?:Finding|_report|require)\(\s*"([a-z-]+)",""", text)}
    assert used == set(FINDINGS)
