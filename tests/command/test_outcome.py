"""Chapter OUTC: faults, warnings, counters, partial dumps."""

import pickle
import re
import string
import subprocess
from pathlib import Path

import pytest
from command_runs import decode_bytes, decode_in_memory, refusal
from ekvdump.cli.advice import ADVICE, advice_for
from ekvdump.cli.text import printable, printable_path, text_of_fault
from ekvdump.engine.first_pass import FirstPass, run_first_pass
from ekvdump.engine.outputs import showable_count, shown_count
from ekvdump.engine.source import Source
from ekvdump.outcome import unreadable_count
from ekvdump.verify.findings import FINDINGS, Finding
from ekvformat.decode import Options
from ekvformat.outcomes import FAULTS, Counters, Fault
from hypothesis import given
from hypothesis import strategies as st
from writer import (
    HLL,
    STR,
    TTL,
    Entry,
    delete,
    encoded_entry,
    envelope,
    expiry,
    operational,
    payload_start,
    put,
    snapshot,
)

ROOT = Path(__file__).resolve().parents[2]
BAD_STRING = put(STR + b"s", 1, b"\xff\x01")
BAD_HLL = put(HLL + b"h", 1, b"\xff\x02")
BAD_TTL = put(TTL + b"t", 1, b"")
BAD_HEADER = put(STR + b"z", 1, b"", flags=0b1000)
ALL_KINDS: list[Entry] = [
    operational(b"_meta_applied_index", 1),
    put(STR + b"f", 2000, b"future"),
    put(STR + b"k", 2, envelope(1, b"v")), put(STR + b"k", 1, b"history"), put(b"k", 1, b"shadowed"),
    delete(STR + b"d", 1), put(STR + b"e", 1, b"", expire_at=5),
    put(b"!txn|x", 1, b""), put(b"!what|is|this", 1, b""),
    put(b"bare", 1, b"v"), put(HLL + b"h", 1, b"h"),
    put(TTL + b"k", 1, expiry(1)), put(TTL + b"bare", 1, expiry(1)), put(TTL + b"h", 1, expiry(1)),
    put(TTL + b"nobody", 1, expiry(1)),
]  # fmt: skip


def test_outc_1_a_refusal_names_fault_clause_place_and_key() -> None:
    fault = Fault("truncated", "FILE-13", "value is cut", 42, None, b"k\xff")
    assert text_of_fault(fault) == 'truncated [FILE-13] at offset 42, key "k\\xff": value is cut'
    fault = Fault("truncated", "FILE-20", "words", None, "/tmp/a b")
    assert text_of_fault(fault) == "truncated [FILE-20] at '/tmp/a b': words"
    fault = Fault("truncated", "FILE-20", "words", 7, "/tmp/a", b"k")
    assert text_of_fault(fault) == 'truncated [FILE-20] at offset 7 at /tmp/a, key "k": words'
    assert text_of_fault(Fault("truncated", "FILE-20", "words")) == "truncated [FILE-20]: words"


def test_outc_16_the_sums_of_counters_are_of_what_they_say() -> None:
    counters = Counters()
    counters.entries.update(string=1, bare=20, hll=300, ttl=4000)
    counters.strings.update(written=5, shadowed=60, excluded=700, unreadable=8000)
    counters.hlls.update(written=20, excluded=300, unreadable=40_000)
    counters.ttls.update(applied=7, unreadable=900_000)
    assert (shown_count(counters), showable_count(counters), unreadable_count(counters)) == (25, 321, 948_000)


def test_outc_1_a_fault_survives_pickling() -> None:
    fault = pickle.loads(pickle.dumps(Fault("truncated", "FILE-13", "cut", 42, "p", b"k")))
    assert isinstance(fault, Fault)
    assert fault.args == ("truncated", "FILE-13", "cut", 42, "p", b"k")
    assert (fault.name, fault.clause, fault.detail) == ("truncated", "FILE-13", "cut")
    assert (fault.offset, fault.path, fault.key) == (42, "p", b"k")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(snapshot([BAD_HEADER, BAD_STRING])[:-5], "truncated", id="structure-first"),
        pytest.param(snapshot([BAD_HEADER, BAD_STRING])[:-1] + b"?", "footer-mismatch", id="then-the-footer"),
        pytest.param(
            snapshot([BAD_HEADER, BAD_STRING], with_footer=False), "truncated", id="a-missing-footer-is-structure"
        ),
        pytest.param(snapshot([BAD_HEADER, BAD_STRING]), "reserved-bits", id="then-entry-headers"),
        pytest.param(snapshot([BAD_STRING]), "invalid-value", id="then-values"),
    ],
)
def test_outc_2_the_first_class_that_has_a_fault_is_named(data: bytes, fault: str) -> None:
    assert refusal(data)[0] == fault


def test_outc_3_within_a_class_the_lowest_offset_is_named() -> None:
    encrypted = put(STR + b"a", 1, b"", flags=0b10)
    assert refusal(snapshot([encrypted, BAD_HEADER]))[:2] == ("encrypted", "VISI-5")
    assert refusal(snapshot([put(b"!a|", 1, b"", flags=0b1000), encrypted]))[:2] == ("reserved-bits", "VISI-3")
    # Out of order at one entry, cut at the next; and an entry that is both is out of order, at its start.
    first, second = encoded_entry((b"b" * 8, bytes(9))), encoded_entry((b"a" * 8, bytes(9)))
    assert refusal(payload_start(1) + first + second + first[:-1])[:3] == ("out-of-order", "FILE-14", 49)
    for size in range(16, len(second)):
        assert refusal(payload_start(1) + first + second[:size])[:3] == ("out-of-order", "FILE-14", 49)
    assert refusal(payload_start(1) + first + second[:15])[:3] == ("truncated", "FILE-13", 57)
    bomb = second[:16] + b"\xff" * 8
    assert refusal(payload_start(1) + first + bomb)[:3] == ("out-of-order", "FILE-14", 49)


@pytest.mark.parametrize(
    ("entries", "clause"),
    [
        ([BAD_TTL, BAD_STRING, BAD_HLL], "RHLL-3"),
        ([BAD_TTL, BAD_STRING], "RSTR-3"),
        ([BAD_TTL, put(b"bare", 1, b"")], "RTTL-1"),
        ([BAD_STRING, put(STR + b"s" + b"x", 1, b"\xff\x01\x01")], "RSTR-4"),
    ],
    ids=["hlls", "strings", "ttl rows", "canonical order"],
)
def test_outc_4_values_are_judged_in_output_order(entries: list[Entry], clause: str) -> None:
    assert refusal(snapshot(entries))[1] == clause


def test_outc_5_the_output_directory_is_judged_before_the_snapshot_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(Fault, match=r"^not-empty"):
        decode_bytes(b"no snapshot", tmp_path)


def test_outc_5_the_output_directory_is_judged_again_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(source: Source) -> FirstPass:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "file").touch()
        return run_first_pass(source)

    monkeypatch.setattr("ekvdump.run.run_first_pass", meanwhile)
    with pytest.raises(Fault, match=r"^not-empty") as caught:
        decode_bytes(snapshot([put(STR + b"k", 1, b"v")]), tmp_path)
    assert caught.value.clause == "TREE-7"


def test_outc_7_the_exit_status_is_that_of_the_first_fault() -> None:
    fault = Fault("disk-full", "TREE-24", "full")
    fault.also = (Fault("io-error", "TREE-25", "broken"),)
    assert fault.exit_status == 6


def test_outc_8_a_warning_does_not_change_the_exit_status() -> None:
    data = snapshot([put(TTL + b"x", 1, expiry(1)), put(STR + b"k", 2000, b"v")], header=b"", with_footer=False)
    outcome, _ = decode_in_memory(data)
    assert [warning.name for warning in outcome.warnings] == ["no-footer", "future-version", "orphan-ttl"]
    assert (outcome.exit_status, outcome.complete) == (0, True)


def test_outc_9_outc_10_outc_11_each_warning_once_in_the_order_of_the_table(tmp_path: Path) -> None:
    entries = [
        put(TTL + b"x", 1, expiry(1)), put(TTL + b"y", 1, expiry(1)), put(STR + b"k", 2000, b"v"),
        put(b"!nobody|", 1, b""), put(b"!ddb|item|x", 1, b""), put(b"!ddb|item|y", 1, b""),
        put(b"!sqs|msg|vis|", 1, b""), operational(b"_meta_applied_index", 9),
    ]  # fmt: skip
    data = snapshot(entries, header=b"", with_footer=False)
    outcome = decode_bytes(data, tmp_path, name=f"{8:016x}.fsm")
    assert [(warning.name, warning.count, warning.about) for warning in outcome.warnings] == [
        ("no-footer", 1, ()),
        ("index-behind", 1, ()),
        ("future-version", 1, ()),
        ("unknown-prefix", 1, ("%21nobody%7C",)),
        ("undecoded-type", 2, ("dynamodb",)),
        ("undecoded-type", 1, ("sqs",)),
        ("orphan-ttl", 2, ("x", "y")),
    ]
    assert all(warning.detail for warning in outcome.warnings)


def test_outc_12_reasons_name_what_is_not_shown() -> None:
    outcome, _ = decode_in_memory(snapshot([put(b"!hs|fld|x", 1, b""), put(b"!nobody|", 1, b"")]))
    assert [(each.reason, each.about, each.count) for each in outcome.partial_reasons] == [
        ("unknown-prefix", "unknown", 1),
        ("undecoded-type", "hash", 1),
    ]
    assert (outcome.complete, outcome.exit_status) == (False, 3)


@pytest.mark.parametrize("only", [{"strings"}, {"hll"}, {"strings", "hll"}], ids=sorted)
def test_outc_13_types_that_are_named_are_all_that_is_wanted(only: set[str]) -> None:
    entries = [
        put(b"!hs|fld|x", 1, b""),
        put(b"!nobody|", 1, b""),
        put(STR + b"k", 1, b"s"),
        put(HLL + b"k", 1, b"h"),
    ]
    outcome, files = decode_in_memory(snapshot(entries), Options(only=frozenset(only)))
    assert outcome.complete
    assert outcome.warnings == []
    assert {path.split("/")[2] for path in files} == only
    assert outcome.counters.entries["unknown"] == outcome.counters.entries["undecoded"] == 1


def test_outc_17_excluded_records_are_not_judged_and_have_no_row() -> None:
    entries = [
        BAD_STRING, put(b"s", 1, b"shadowed"), put(TTL + b"s", 1, expiry(1)), put(STR + b"e", 1, envelope(1, b"", 5)),
        put(TTL + b"e", 1, expiry(5)), put(HLL + b"b64.", 1, b"h"), put(TTL + b"b64.", 1, expiry(1)),
        put(TTL + b"nobody", 1, expiry(1)),
    ]  # fmt: skip
    outcome, files = decode_in_memory(snapshot(entries), Options(only=frozenset({"hll"})))
    assert {path.split("/")[-1] for path in files if path.endswith("l")} == {"KEYMAP.jsonl", "hll_ttl.jsonl"}
    assert outcome.counters.strings == {"written": 0, "shadowed": 0, "excluded": 3, "unreadable": 0}
    assert outcome.counters.ttls == {
        "applied": 1,
        "redundant": 0,
        "unclaimed": 0,
        "orphan": 1,
        "excluded": 2,
        "unreadable": 0,
    }
    assert [warning.name for warning in outcome.warnings] == ["orphan-ttl"]


def test_outc_14_outc_15_every_entry_is_exactly_one_thing_and_the_groups_add_up() -> None:
    outcome, _ = decode_in_memory(snapshot(ALL_KINDS))
    counters = outcome.counters
    assert counters.entries == {
        "operational": 1, "future": 1, "history": 1, "deleted": 1, "expired": 1, "internal": 1, "unknown": 1,
        "undecoded": 0, "string": 1, "bare": 2, "hll": 1, "ttl": 4,
    }  # fmt: skip
    assert sum(counters.entries.values()) == len(ALL_KINDS)
    assert counters.strings == {"written": 2, "shadowed": 1, "excluded": 0, "unreadable": 0}
    assert counters.hlls == {"written": 1, "excluded": 0, "unreadable": 0}
    assert counters.ttls == {"applied": 2, "redundant": 1, "unclaimed": 0, "orphan": 1, "excluded": 0, "unreadable": 0}


def test_outc_16_every_name_is_there_and_in_order() -> None:
    counters = Counters()
    assert list(counters.undecoded) == ["hash", "list", "set", "zset", "stream", "dynamodb", "s3", "sqs"]
    assert set(counters.undecoded.values()) == {0}


@given(st.binary(max_size=300))
def test_keys_are_shown_so_that_they_can_be_pasted_back(key: bytes) -> None:
    shown = printable(key)
    head = shown.split('" and ')[0].strip('"')
    assert head.isascii()
    assert head.encode().decode("unicode_escape").encode("latin-1") == key[:200]
    assert (" bytes more" in shown) == (len(key) > 200)


LETTERS = (string.ascii_letters + string.digits + string.punctuation + " ").encode()


def test_every_byte_of_a_key_is_shown_as_it_is_or_as_hex() -> None:
    shown = "".join(chr(byte) if byte in LETTERS and byte not in b'"\\' else f"\\x{byte:02x}" for byte in range(256))
    assert printable(bytes(range(256)), 256) == f'"{shown}"'


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
    assert len({fault.name for fault in faults}) == 44
    assert {fault.name for fault in faults} >= set(ADVICE)
    assert all(advice_for(fault) and fault.exit_status for fault in faults)


def test_every_finding_is_in_the_table_and_can_be_found() -> None:
    texts = [path.read_text() for path in (ROOT / "command" / "ekvdump" / "verify").glob("*.py")]
    used = {name for text in texts for name in re.findall(r"""(?:Finding|_report|require)\(\s*"([a-z-]+)",""", text)}
    assert used == set(FINDINGS)
