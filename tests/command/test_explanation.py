"""`ekvdump explain`: every byte of a snapshot is explained once, whatever the bytes are."""

from pathlib import Path

import pytest
from ekvconform.cases.loading import load_cases
from ekvdump.explanation import Explanation, iter_lines
from ekvdump.inspection import inspect
from ekvexplain.fields import iter_snapshot_fields
from ekvexplain.pieces import Field
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from real import REAL, unpack
from writer import HLL, STR, TTL, delete, envelope, expiry, put, snapshot

CASES = [
    case for case in load_cases() if case.scene.snapshot and not case.is_big and len(case.scene.snapshot) < 100_000
]


def fields_of(path: Path) -> list[Field]:
    return list(Explanation(str(path)).iter_fields())


def assert_each_byte_once(fields: list[Field], data: bytes) -> None:
    at = 0
    for field in fields:
        assert field.offset == at, field
        assert data[at:].startswith(field.data), field
        assert len(field.data) <= field.size
        at += field.size
    assert at == len(data)


def test_every_byte_of_every_case_is_explained_once(tmp_path: Path) -> None:
    path = tmp_path / "s.fsm"
    for case in CASES:
        path.write_bytes(case.scene.snapshot or b"")
        assert_each_byte_once(fields_of(path), case.scene.snapshot or b"")
        assert_each_byte_once(list(iter_snapshot_fields(case.scene.snapshot or b"")), case.scene.snapshot or b"")
    assert len(CASES) > 700


@given(data=st.binary(max_size=60), start=st.sampled_from([b"", b"EKVPBBL1", b"EKVTHLC1", b"EKVTHLC2", b"EKVTHLC3"]))
def test_any_bytes_are_explained(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "s.fsm"
    path.write_bytes(start + data)
    assert_each_byte_once(fields_of(path), start + data)
    fault = inspect(str(path)).fault
    explanation = Explanation(str(path))
    assert explanation.fault is None or fault is not None
    assert list(iter_lines(explanation, None, None)) or not start + data


@pytest.mark.parametrize("name", sorted(path.name for path in REAL.iterdir() if path.is_dir()))
def test_every_field_of_a_real_snapshot_has_a_clause(tmp_path: Path, name: str) -> None:
    fields = fields_of(Path(unpack(name, tmp_path)))
    assert {field.clause for field in fields} >= {"FILE-6", "FILE-18"}
    assert len(fields) < 10 or {"FILE-11", "VISI-1", "VISI-2", "ENVL-9"} <= {field.clause for field in fields}
    assert all(field.clause for field in fields)


def story(tmp_path: Path, key: bytes, *entries: tuple[bytes, bytes]) -> list[str]:
    path = tmp_path / "s.fsm"
    path.write_bytes(snapshot(entries, last_commit=100))
    return [line for line in Explanation(str(path)).iter_story(key) if isinstance(line, str)]


def test_the_story_of_a_key_says_why_each_version_counts_or_not(tmp_path: Path) -> None:
    lines = story(
        tmp_path, b"k", put(STR + b"k", 200, b"later"), put(STR + b"k", 9, envelope(1, b"new", 7)),
        put(STR + b"k", 5, b"old"), put(TTL + b"k", 9, expiry(7)), put(STR + b"other", 1, b"x"),
    )  # fmt: skip
    assert [line.strip().split(" [")[0] for line in lines[1:7]] == [
        '"!redis|str|k", of the type string', "committed at 200: future: above the last commit",
        "committed at 9: counts: the newest version that is not above the last commit",
        "committed at 5: history: an older version", '"!redis|ttl|k", of the type ttl',
        "committed at 9: counts: the newest version that is not above the last commit",
    ]  # fmt: skip
    assert [line.strip() for line in lines[8:]] == [
        "redis/db_0/strings/k.bin: 3 bytes", 'redis/db_0/strings_ttl.jsonl: {"key":"k","expire_at_ms":7}',
        "counted in strings: written", "counted in ttls: redundant",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "last"),
    [
        ([delete(STR + b"k", 9), put(STR + b"k", 5, b"old")], "it does not exist: nothing of it is in the dump"),
        ([put(STR + b"k", 9, b"v", expire_at=50)], "it does not exist: nothing of it is in the dump"),
        ([put(b"!hs|fld|\0\0\0\1kf", 9, b"v"), put(TTL + b"k", 9, expiry(7))], "counted in ttls: applied"),
        ([put(b"!lst|itm|k" + bytes(8), 9, b"v"), delete(b"!lst|meta|k", 9)], "counted in lists: orphan"),
        ([put(TTL + b"k", 9, expiry(7))], "counted in ttls: orphan"),
        ([put(HLL + b"k", 9, b"h"), put(b"k", 9, b"v")], "counted in hlls: written"),
        ([put(STR + b"k", 9, b"\xff\x01"), put(TTL + b"k", 9, expiry(7))], "counted in ttls: redundant"),
    ],
    ids=["deleted", "ended", "hash", "item", "orphan", "both", "unreadable"],
)
def test_the_story_of_a_key_ends_with_what_becomes_of_it(
    tmp_path: Path, entries: list[tuple[bytes, bytes]], last: str
) -> None:
    assert story(tmp_path, b"k", *entries)[-1].strip() == last


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"\[io-error, FILE-24\]$"):
        Explanation(str(tmp_path / "missing"))


def test_file_22_a_snapshot_that_changes_while_it_is_explained_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "s.fsm"
    path.write_bytes(snapshot([put(STR + b"k", 1, b"v")]))
    with Explanation(str(path)) as explanation:
        assert list(explanation.iter_fields())
        explanation.check_unchanged()
        path.rename(tmp_path / "old")
        path.write_bytes(snapshot([]))
        with pytest.raises(Fault, match=r"\[changed, FILE-22\]$"):
            explanation.check_unchanged()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            (b"!hs|fld|\0\0\0\1kname", b"v"),
            ["size of the user key 1", 'user key "k"', 'name of a field "name"', 'value "v"'],
        ),
        ((b"!hs|fld|\0\0\0\2k", b"v"), ['"\\x00\\x00\\x00\\x02k": a stray']),
        ((b"!lst|meta|d|k", bytes(24)), ['user key "d|k"', "head 0", "tail 0", "length 0"]),
        (
            (b"!lst|meta|d|\0\0\0\1k" + bytes(12), bytes(17)),
            ["suffix of a delta", "length_delta 0", "more than a delta has"],
        ),
        ((b"!lst|itm|k\x7f" + b"\xff" * 7, b"i"), ["number -1 of an item", 'item "i"']),
        ((b"!lst|itm|k", b"i"), ['"k": a stray']),
        ((b"!zs|mem|\0\0\0\1km", b"\x3f\xf0" + bytes(6)), ['member "m"', "score 1.0"]),
        ((b"!zs|mem|\0\0\0\1km", b""), ['member "m"']),
        ((b"!st|meta|\0\0\0\1k", bytes(8) + expiry(1)), ["length 0", "expiry 1, 1970-01-01T00:00:00.001+00:00"]),
        ((b"!st|meta|\0\0\0\1k", bytes(10)), ["length 0", "expiry (cut)"]),
        (
            (b"!stream|entry|\0\0\0\1k" + bytes(15) + b"\7", b"\0RXE\1\n\0\x10\5\x0f"),
            [
                "place 0-7",
                "magic of an element",
                "field 1, wire type 2",
                "field 2, wire type 0",
                "the rest of the message",
            ],
        ),
        ((b"!redis|set|k", b"junk"), ["not the magic of a packed set"]),
        ((b"!redis|zset|k", b"\0RZ\1\x11" + bytes(8)), ["magic of a packed zset", "field 2, wire type 1"]),
        ((b"!redis|stream|k", b"x"), ['body, which is not looked at "x"']),
    ],
)
def test_type_1_fields_of_collections_are_named(entry: tuple[bytes, bytes], words: list[str]) -> None:
    key, body = entry
    said = [field.words for field in iter_snapshot_fields(snapshot([put(key, 1, body)]))]
    for each in words:
        assert any(each in one for one in said), said
