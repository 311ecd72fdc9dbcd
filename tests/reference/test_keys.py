"""Chapter KEYS: key prefixes and types."""

import pytest
from ekvformat.keys import beginning_of, type_of
from hypothesis import given
from hypothesis import strategies as st
from model import TABLE
from model import type_of as naive_type_of
from reference_runs import reasons_of, summary_of
from writer import STR, TTL, expiry, put, version_suffix

TYPE_OF_PREFIX = [
    (prefix.encode(), type_) for group in TABLE.values() for type_, prefixes in group.items() for prefix in prefixes
]


@pytest.mark.parametrize(("prefix", "type_"), TYPE_OF_PREFIX)
def test_keys_1_each_prefix_is_of_its_type(prefix: bytes, type_: str) -> None:
    for rest in (b"", b"\0", b"\xff" * 9):
        assert type_of(prefix + rest) == type_
    # One byte less, or another last byte, is another prefix or none.
    for other in (prefix[:-1], prefix[:-1] + b"{", prefix[:-1] + b"~"):
        assert type_of(other) == naive_type_of(other)


@given(st.sampled_from([prefix for prefix, _ in TYPE_OF_PREFIX] + [b"", b"!", b"a"]), st.binary(max_size=4))
def test_keys_1_the_longest_prefix_wins(prefix: bytes, rest: bytes) -> None:
    for key in (prefix + rest, prefix[: len(rest)] + rest):
        assert type_of(key) == naive_type_of(key)


@pytest.mark.parametrize("key", [b"", b"\0", b"a", b'"', b"\x20!redis|str|k", b"\xff"])
def test_keys_3_a_key_that_does_not_begin_with_the_mark_is_bare(key: bytes) -> None:
    assert type_of(key) == "bare"


def test_keys_10_the_types_wanted_decide_whether_unknown_records_make_the_dump_partial() -> None:
    unknown = put(b"!new|thing|x", 1, b"v")
    assert reasons_of(summary_of(unknown)) == [("unknown-prefix", "unknown", 1)]
    assert summary_of(unknown, only={"strings"}).warnings == []


def test_keys_5_keys_7_keys_6_types_without_a_chapter_are_counted_by_name() -> None:
    entries = [
        put(prefix.encode() + b"%d" % n, 1, b"v")
        for prefixes in TABLE["undecoded"].values()
        for n, prefix in enumerate(prefixes)
    ]
    summary = summary_of(*entries)
    counts = {name: len(prefixes) for name, prefixes in TABLE["undecoded"].items()}
    assert summary.counters.undecoded == counts
    assert summary.counters.entries["undecoded"] == len(entries)
    assert [(warning.name, warning.count, warning.about) for warning in summary.warnings] == [
        ("undecoded-type", count, (name,)) for name, count in counts.items()
    ]
    assert reasons_of(summary) == [("undecoded-type", name, count) for name, count in counts.items()]


def test_keys_7_types_that_are_not_wanted_do_not_make_the_dump_partial() -> None:
    entries = [put(b"!ddb|item|x", 1, b"v"), put(STR + b"k", 1, b"v"), put(TTL + b"x", 1, expiry(1))]
    summary = summary_of(*entries, only={"strings", "hll"})
    assert reasons_of(summary) == []
    assert summary.counters.undecoded["dynamodb"] == 1


def test_keys_5_a_hidden_record_is_not_a_record() -> None:
    hidden = (b"!ddb|item|x" + version_suffix(2), b"\x01" + bytes(8))
    assert reasons_of(summary_of(put(b"!ddb|item|x", 1, b"v"), hidden)) == []


def test_keys_9_one_warning_gives_the_count_and_the_first_beginnings() -> None:
    entries = [put(b"!new|thing%d|%d" % (n % 20, n), 1, b"v") for n in range(100)]
    (warning,) = summary_of(*entries).warnings
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
    assert beginning_of(key) == beginning
