"""Chapter KEYS: key prefixes and types."""

import pytest
from ekvdump.engine import key_types
from ekvdump.engine.first_pass import MAX_EXTENTS, run_first_pass
from ekvdump.engine.key_types import type_of
from ekvformat import keys
from ekvformat.decode import Options
from harness import MemorySource, decode_in_memory
from hypothesis import given
from hypothesis import strategies as st
from model import TABLE
from model import type_of as naive_type_of
from writer import STR, TTL, expiry, put, snapshot, version_suffix

TYPE_OF_PREFIX = [
    (prefix, type_) for group in TABLE.values() for type_, prefixes in group.items() for prefix in prefixes
]


@pytest.mark.parametrize(("prefix", "type_"), TYPE_OF_PREFIX)
def test_keys_1_each_prefix_is_of_its_type(prefix: str, type_: str) -> None:
    whole = prefix.encode()
    assert type_of(whole) == type_
    assert type_of(whole + b"\0") == type_
    assert type_of(whole + b"\xff" * 9) == type_
    # One byte less, or the last byte one more or less, is another prefix or none.
    for other in (whole[:-1], whole[:-1] + b"{", whole[:-1] + b"~"):
        assert type_of(other) == naive_type_of(other)


@given(st.sampled_from([prefix.encode() for prefix, _ in TYPE_OF_PREFIX] + [b"", b"!", b"a"]), st.binary(max_size=4))
def test_keys_1_the_longest_prefix_wins(prefix: bytes, rest: bytes) -> None:
    for key in (prefix + rest, prefix[: len(rest)] + rest):
        assert type_of(key) == naive_type_of(key)


@pytest.mark.parametrize(("prefix", "type_"), TYPE_OF_PREFIX)
def test_keys_1_the_prefix_of_a_key_can_be_shown(prefix: str, type_: str) -> None:
    assert key_types.prefix_of(prefix.encode() + b"\0") == prefix.encode()


def test_keys_1_the_least_key_above_all_that_begin_with_a_prefix() -> None:
    assert key_types._after(b"ab|") == b"ab}"


def test_keys_1_what_no_prefix_begins_has_none() -> None:
    assert key_types.prefix_of(b"a") == b""


def test_keys_2_the_type_is_the_storage_keys() -> None:
    # `!red` with a version suffix that reads `is|str|a`: no string, however the encoded key begins.
    commit_ts = 2**64 - 1 - int.from_bytes(b"is|str|a", "big")
    entry = put(b"!red", commit_ts, b"v")
    assert entry[0] == b"!redis|str|a"
    outcome, files = decode_in_memory(snapshot([entry], last_commit=commit_ts))
    assert files == {}
    assert outcome.counters.entries["unknown"] == 1


def test_keys_3_an_unknown_prefix_is_counted_and_not_shown() -> None:
    outcome, files = decode_in_memory(snapshot([put(b"!new|thing|x", 1, b"v"), put(b"!", 1, b"v")]))
    assert files == {}
    assert outcome.counters.entries["unknown"] == 2


def test_keys_4_unknown_records_make_the_dump_partial() -> None:
    data = snapshot([put(b"!new|thing|x", 1, b"v")])
    outcome, _ = decode_in_memory(data)
    assert outcome.exit_status == 3
    assert [(reason.reason, reason.about, reason.count) for reason in outcome.partial_reasons] == [
        ("unknown-prefix", "unknown", 1)
    ]
    outcome, _ = decode_in_memory(data, Options(only=frozenset({"strings"})))
    assert (outcome.exit_status, outcome.warnings, outcome.partial_reasons) == (0, [], [])


def test_a_section_has_few_stretches_however_the_keys_lie() -> None:
    # Entries of the storage key `!red` whose version suffixes look like the rest of a string's prefix lie
    # between entries of strings, one after the other.
    strings = [put(STR + b"a%02d" % n, 1, b"v") for n in range(40)]
    between = [(b"!redis|str|a%02d\xff" % n, put(b"", 1, b"v")[1]) for n in range(40)]
    assert all(entry[0][:-8].startswith(b"!redi") for entry in between)
    found = run_first_pass(MemorySource(snapshot([*strings, *between], last_commit=2**64 - 1)))
    assert found.counters.entries["unknown"] > 0
    assert len(found.extents["string"]) == MAX_EXTENTS


def test_keys_9_one_warning_gives_the_count_and_the_first_beginnings() -> None:
    entries = [put(b"!new|thing%d|%d" % (n % 20, n), 1, b"v") for n in range(100)]
    outcome, _ = decode_in_memory(snapshot(entries))
    (warning,) = outcome.warnings
    assert (warning.name, warning.count) == ("unknown-prefix", 100)
    in_file_order = sorted(b"!new|thing%d|" % n for n in range(20))[:16]
    assert list(warning.about) == [start.decode().replace("!", "%21").replace("|", "%7C") for start in in_file_order]


@pytest.mark.parametrize(
    ("key", "beginning"),
    [
        (b"!a|b|c|d", b"!a|b|"),
        (b"!||x", b"!||"),
        (b"!a|b", b"!a|b"),
        (b"!" + b"a" * 62 + b"|b|", b"!" + b"a" * 62 + b"|"),
        (b"!" + b"a" * 61 + b"||b", b"!" + b"a" * 61 + b"||"),
        (b"!" + b"a" * 100, b"!" + b"a" * 63),
    ],
)
def test_keys_9_a_beginning_ends_with_the_second_bar_or_at_64_bytes(key: bytes, beginning: bytes) -> None:
    assert keys.beginning_of(key) == beginning


@pytest.mark.parametrize("key", [b"", b"\0", b"a", b'"', b"\x20!redis|str|k", b"\xff"])
def test_keys_5_what_does_not_begin_with_the_mark_is_bare(key: bytes) -> None:
    assert type_of(key) == "bare"
    outcome, files = decode_in_memory(snapshot([put(key, 1, b"v")]))
    assert list(files.values()) == [b"v"]
    assert outcome.counters.entries["bare"] == 1


def test_keys_6_internal_records_are_counted_and_not_shown() -> None:
    entries = [put(prefix.encode() + b"x", 1, b"v") for prefix in TABLE["internal"]["internal"]]
    outcome, files = decode_in_memory(snapshot(entries))
    assert files == {}
    assert outcome.counters.entries["internal"] == len(entries) == 10
    assert outcome.complete
    assert outcome.warnings == []


def test_keys_7_keys_8_keys_10_types_without_a_chapter_are_counted_by_name() -> None:
    entries = [
        put(prefix.encode() + b"%d" % n, 1, b"v")
        for prefixes in TABLE["undecoded"].values()
        for n, prefix in enumerate(prefixes)
    ]
    outcome, files = decode_in_memory(snapshot(entries))
    assert files == {}
    counts = {name: len(prefixes) for name, prefixes in TABLE["undecoded"].items()}
    assert outcome.counters.undecoded == counts
    assert outcome.counters.entries["unknown"] == 0
    assert [(warning.name, warning.count, warning.about) for warning in outcome.warnings] == [
        ("undecoded-type", count, (name,)) for name, count in counts.items()
    ]
    assert [(reason.reason, reason.about, reason.count) for reason in outcome.partial_reasons] == [
        ("undecoded-type", name, count) for name, count in counts.items()
    ]
    assert outcome.exit_status == 3


def test_keys_8_types_that_are_not_wanted_do_not_make_the_dump_partial() -> None:
    data = snapshot([put(b"!hs|fld|x", 1, b"v"), put(STR + b"k", 1, b"v"), put(TTL + b"x", 1, expiry(1))])
    outcome, files = decode_in_memory(data, Options(only=frozenset({"strings", "hll"})))
    assert list(files) == ["redis/db_0/strings/k.bin"]
    assert outcome.complete
    assert outcome.counters.undecoded["hash"] == 1


def test_keys_7_a_hidden_record_is_no_record() -> None:
    data = snapshot([put(b"!hs|fld|x", 1, b"v"), (b"!hs|fld|x" + version_suffix(2), b"\x01" + bytes(8))])
    outcome, _ = decode_in_memory(data)
    assert outcome.complete
