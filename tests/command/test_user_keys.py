"""Single keys: what get, keys, resp and diff are made of, from snapshots and from dumps."""

import base64
import json
import os
import random
import struct
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import collection_model
import model
import pytest
import stores
from collection_stores import sized, text_field
from ekvdump.engine.record_index import HEAD_SIZE
from ekvdump.queries import dump_keys, snapshot_keys
from ekvdump.queries.differences import Difference, have_same_payload, iter_differences
from ekvdump.queries.dump_keys import DumpKeys
from ekvdump.queries.glob import matcher_of
from ekvdump.queries.keys import EVERYTHING, Key, KeySource, Selection
from ekvdump.queries.members import NoMembersError, iter_members
from ekvdump.queries.notation import decode_word, shell_word_of, word_of
from ekvdump.queries.resp import (
    BEHIND_OTHERS,
    EMPTY,
    EXPIRED,
    HLLS,
    NO_SETS,
    NO_XADD,
    STRINGS,
    WORDS_AT_ONCE,
    Restore,
)
from ekvdump.queries.snapshot_keys import SnapshotKeys
from ekvdump.verify.findings import Finding
from ekvformat.outcomes import Fault
from hypothesis import example, given
from hypothesis import strategies as st
from redis_server import commands_in
from writer import HLL, STR, TTL, Entry, envelope, expiry, put, snapshot

Found = tuple[bytes, str, bytes, int | None]
"""User key, type, payload, expiry."""
SEEDS = 400


@pytest.fixture(autouse=True, scope="module")
def small_runs() -> Iterator[None]:
    """Sort in many small parts, and read values in small pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ekvdump.filesystem.external_sort.RUN_LINES", 3)
        patch.setattr("ekvdump.filesystem.external_sort.MAX_RUNS", 2)
        patch.setattr(snapshot_keys, "PIECE_SIZE", HEAD_SIZE)
        patch.setattr(dump_keys, "PIECE_SIZE", 2)
        yield


def found_in(source: KeySource, selection: Selection = EVERYTHING) -> list[Found]:
    found = []
    for key in source.iter_keys(selection):
        payload = b"".join(key.iter_pieces())
        assert len(payload) == key.size
        assert list(key.iter_elements()) == (elements_in(key.type, payload) if key.is_collection else [])
        found.append((key.user_key, key.type, payload, key.expiry_ms))
    return found


def expected_keys(files: dict[str, bytes]) -> list[Found]:
    """Read the keys back from the files of a dump, the naive way."""
    originals = {
        line["encoded"]: base64.urlsafe_b64decode(line["original"] + "==")
        for line in json_lines(files, "redis/db_0/KEYMAP.jsonl")
    }
    found = []
    for directory, type_, sidecar in (("strings", "string", "strings_ttl"), ("hll", "hll", "hll_ttl")):
        expiries = {line["key"]: line["expire_at_ms"] for line in json_lines(files, f"redis/db_0/{sidecar}.jsonl")}
        for path, payload in files.items():
            if path.startswith(f"redis/db_0/{directory}/"):
                segment = path.rpartition("/")[2].removesuffix(".bin")
                key = originals.get(segment, urllib.parse.unquote_to_bytes(segment))
                found.append((key, type_, payload, expiries.get(segment)))
    for type_, directory in collection_model.DIRECTORIES.items():
        for path, content in files.items():
            if path.startswith(f"redis/db_0/{directory}/"):
                segment = path.rpartition("/")[2].rpartition(".json")[0]
                key = originals.get(segment, urllib.parse.unquote_to_bytes(segment))
                document = json.loads(content.splitlines()[-1] if type_ == "stream" else content)
                found.append((key, type_, content, document["expire_at_ms"]))
    return sorted(found, key=lambda each: model.canonical(each[0]))


def elements_in(type_: str, content: bytes) -> list[tuple[bytes, ...]]:
    """Read the elements of a collection back from its blob, the naive way."""

    def data(value: Any) -> bytes:
        return value.encode() if isinstance(value, str) else base64.urlsafe_b64decode(value["base64"] + "==")

    if type_ == "stream":
        lines = [json.loads(line) for line in content.splitlines()[:-1]]
        return [
            (line["id"].encode(), *(pair[name].encode() for pair in line["fields"] for name in ("name", "value")))
            for line in lines
        ]
    document = json.loads(content, parse_float=str, parse_int=str)
    if type_ == "hash":
        return [(data(field["name"]), data(field["value"])) for field in document["fields"]]
    if type_ == "zset":
        return [(member["score"].encode(), data(member["member"])) for member in document["members"]]
    return [(data(item),) for item in document["items" if type_ == "list" else "members"]]


def json_lines(files: dict[str, bytes], path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.get(path, b"").splitlines()]


def write_files(directory: Path, files: dict[str, bytes]) -> str:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    (directory / "redis").mkdir(parents=True, exist_ok=True)
    return str(directory)


def write_snapshot(directory: Path, entries: list[Entry], last_commit: int = 10**9) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "snapshot.fsm").write_bytes(snapshot(entries, last_commit=last_commit))
    return str(directory / "snapshot.fsm")


@pytest.mark.parametrize("kind", ["hostile", "mixed"])
def test_keys_are_what_a_dump_holds(kind: str, tmp_path: Path) -> None:
    """The keys of a snapshot and of its dump are those of the model, in canonical order. [VISI-17]"""
    for seed in range(SEEDS):
        dice = random.Random(seed)
        if kind == "hostile":
            entries, last_commit = stores.hostile_store(dice), dice.choice([3, 2**57, 2**64 - 1])
        else:
            entries, last_commit = stores.mixed_store(dice), 12
        dump = model.expected_dump(entries, last_commit, salvage=True)
        expected = expected_keys(dump.files)
        with SnapshotKeys(write_snapshot(tmp_path / "in", entries, last_commit)) as source:
            assert found_in(source) == expected, seed
            omitted = [each.count for each in source.omissions() if each.name == "undecoded-type"]
            assert omitted == [count for count in dump.undecoded.values() if count]
            for user_key, type_, payload, expiry_ms in expected:
                key = source.find(user_key, type_)
                assert key is not None
                assert (b"".join(key.iter_pieces()), key.expiry_ms) == (payload, expiry_ms)
        if seed % 8 == 0:
            with DumpKeys(write_files(tmp_path / f"dump{seed}", dump.files), verify=False) as source_of_dump:
                assert found_in(source_of_dump) == expected, seed
                for user_key, type_, payload, expiry_ms in expected:
                    key = source_of_dump.find(user_key, type_)
                    assert key is not None
                    assert (b"".join(key.iter_pieces()), key.expiry_ms) == (payload, expiry_ms)


TWO = [
    put(STR + b"a", 1, envelope(1, b"string", 5)),
    put(HLL + b"a", 1, envelope(2, b"shadowed")),
    put(HLL + b"aa", 1, envelope(2, b"hll")),
    put(HLL + b"b", 1, b"only"),
    put(TTL + b"b", 1, expiry(7)),
    put(TTL + b"nobody", 1, b"short"),
]


def test_a_key_without_a_type_is_the_string_first(tmp_path: Path) -> None:
    with SnapshotKeys(write_snapshot(tmp_path, TWO)) as source:
        types = [(key and key.type) for key in (source.find(b"a", None), source.find(b"b", None))]
        assert types == ["string", "hll"]
        assert source.find(b"b", "string") is None
        assert source.find(b"nobody", None) is None


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (EVERYTHING, [b"aa", b"a", b"b"]),
        (Selection(types=frozenset({"hll"})), [b"aa", b"b"]),
        (Selection(prefix=b"b"), [b"b"]),
        (Selection(matches=matcher_of(b"[^b]")), [b"a"]),
        (Selection(prefix=b"a", matches=matcher_of(b"*b")), []),
    ],
)
def test_what_is_selected(selection: Selection, wanted: list[bytes], tmp_path: Path) -> None:
    files = model.expected_dump(TWO, 10**9, salvage=True).files
    with SnapshotKeys(write_snapshot(tmp_path, TWO)) as source:
        assert [key.user_key for key in source.iter_keys(selection)] == wanted
    with DumpKeys(write_files(tmp_path / "dump", files), verify=False) as source_of_dump:
        assert [key.user_key for key in source_of_dump.iter_keys(selection)] == wanted


@pytest.mark.parametrize("entry", [put(STR + b"k", 1, b"\xff\x01"), put(STR + b"k", 1, b"legacy")])
def test_salv_2_what_no_client_could_read_is_counted_and_refused_by_name(entry: Entry, tmp_path: Path) -> None:
    entries = [entry, put(TTL + b"k", 1, b"short"), put(STR + b"z", 1, b"sound")]
    with SnapshotKeys(write_snapshot(tmp_path, entries)) as source:
        assert [key.user_key for key in source.iter_keys(EVERYTHING)] == [b"z"]
        assert [(each.name, each.count) for each in source.omissions()] == [("unreadable-value", 1)]
        with pytest.raises(Fault) as caught:
            source.find(b"k", None)
    assert (caught.value.name, caught.value.key) == ("invalid-value", STR + b"k")


def test_file_22_a_value_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, [put(STR + b"k", 1, b"value")])
    with SnapshotKeys(path) as source:
        data = Path(path).read_bytes()
        with open(path, "r+b") as file:
            file.seek(data.index(b"value"))
            file.write(b"VALUE")
        with pytest.raises(Fault, match=r"\[changed, FILE-22\]"):
            found_in(source)


def test_file_21_a_snapshot_that_is_refused_has_no_keys(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, TWO)
    os.truncate(path, os.path.getsize(path) - 1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Fault, match=r"\[truncated, "):
        SnapshotKeys(path)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- dumps ----


def keymap_line(encoded: str, key: bytes, kind: str = "sha-fallback") -> bytes:
    return json.dumps({"encoded": encoded, "original": model.base64url(key), "kind": kind}).encode() + b"\n"


def test_veri_12_only_lines_that_fit_name_a_key(tmp_path: Path) -> None:
    key = b"x" * 300
    segment = model.segment_of(key)
    files = {
        f"redis/db_0/strings/{segment}.bin": b"v",
        "redis/db_0/KEYMAP.jsonl": keymap_line(segment, key)
        + keymap_line(segment, b"another")
        + keymap_line(segment, b"another", "s3-leaf")
        + keymap_line("0" * 32 + "__\0", b"nul"),
    }
    with DumpKeys(write_files(tmp_path, files), verify=False) as source:
        assert found_in(source) == [(key, "string", b"v", None)]
    (tmp_path / "redis/db_0/KEYMAP.jsonl").write_bytes(keymap_line(segment, b"another"))
    with DumpKeys(str(tmp_path), verify=False) as source, pytest.raises(Finding, match=r"\[needs-keymap, "):
        found_in(source)


def test_rows_that_cannot_be_read_are_a_finding(tmp_path: Path) -> None:
    files = {"redis/db_0/strings/k.bin": b"v", "redis/db_0/strings_ttl.jsonl": b'{"key":"k"}\n'}
    with DumpKeys(write_files(tmp_path, files), verify=False) as source, pytest.raises(Finding, match=r"VERI-14"):
        found_in(source)


def test_what_is_no_blob_is_not_looked_at(tmp_path: Path) -> None:
    files = {
        "redis/db_0/strings/k.bin": b"v",
        "redis/db_0/strings/k.txt": b"",
        "redis/db_0/strings/d.bin/x": b"",
        "redis/db_0/strings_ttl.jsonl": b'{"key":"gone","expire_at_ms":5}\n{"key":"%s__\\u0000","expire_at_ms":5}\n'
        % (b"0" * 32),
    }
    with DumpKeys(write_files(tmp_path, files), verify=False) as source:
        assert found_in(source) == [(b"k", "string", b"v", None)]


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    directory = write_files(tmp_path / "dump", {"redis/db_0/strings/k.bin": b"v"})
    os.symlink(tmp_path / "dump", tmp_path / "link")
    os.rename(tmp_path / "dump/redis/db_0/strings", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", tmp_path / "dump/redis/db_0/strings")
    with DumpKeys(directory, verify=False) as source, pytest.raises(Fault, match=r"\[unsafe-path, SAFE-1[17]\]"):
        found_in(source)
    with pytest.raises(Fault, match=r"\[unsafe-path, SAFE-11\]"):
        DumpKeys(str(tmp_path / "link"), verify=False)


# ---- words for keys ----


@given(st.binary(max_size=20))
@example(b"")
@example(b'"')
@example(b'""')
@example(b"-k")
@example(bytes(range(256)))
def test_each_key_has_a_word_that_is_printable_and_means_it(key: bytes) -> None:
    word = word_of(key)
    assert word.isprintable()
    assert decode_word(word) == key
    assert not word.startswith("-")
    assert shell_word_of(key).isprintable()


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("plain", b"plain"),
        ("é", "é".encode()),
        ('""', b""),
        (r'"\n\r\t\a\b\\\""', b'\n\r\t\a\b\\"'),
        (r'"\x00\xFf\q\xg"', b"\0\xffqxg"),
        ("'a'", b"'a'"),
    ],
)
def test_words_are_read_as_redis_cli_reads_them(word: str, key: bytes) -> None:
    assert decode_word(word) == key


@pytest.mark.parametrize("word", [r'"a\"', r'"\\\"', '"a"b"', '"', '"a', '"a"b'])
def test_a_quote_too_many_or_too_few_is_not_guessed(word: str) -> None:
    with pytest.raises(ValueError, match="quote"):
        decode_word(word)


# ---- patterns ----


def matches(pattern: bytes, text: bytes) -> bool:
    """Say what Redis documents of patterns, byte by byte and without a regular expression."""
    if not pattern:
        return not text
    first, rest = pattern[:1], pattern[1:]
    if first == b"*":
        return matches(rest, text) or (text != b"" and matches(pattern, text[1:]))
    if not text:
        return False
    if first == b"?":
        return matches(rest, text[1:])
    if first == b"[":
        negated, inside, hit = rest[:1] == b"^", False, False
        rest = rest[negated:]
        while rest and rest[:1] != b"]":
            if rest[:1] == b"\\" and len(rest) > 1:
                inside, rest = rest[1] == text[0], rest[2:]
            elif rest[1:2] == b"-" and len(rest) > 2:
                low, high = sorted((rest[0], rest[2]))
                inside, rest = low <= text[0] <= high, rest[3:]
            else:
                inside, rest = rest[0] == text[0], rest[1:]
            hit = hit or inside
        return hit != negated and matches(rest[1:], text[1:])
    if first == b"\\" and rest:
        first, rest = rest[:1], rest[1:]
    return first == text[:1] and matches(rest, text[1:])


PIECES = st.sampled_from([b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"c", b"\n", b"\xff", b"."])


@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(PIECES, max_size=6).map(b"".join))
@example(b"[", b"a")
@example(b"[^", b"a")
@example(b"[c-a]", b"b")
@example(b"[a-", b"-")
@example(b"a\\", b"a\\")
@example(b"*a*b*c", b"xaybzbc")
def test_patterns_match_as_in_redis(pattern: bytes, text: bytes) -> None:
    assert matcher_of(pattern)(text) == matches(pattern, text)


def test_a_pattern_of_many_stars_does_not_hang() -> None:
    assert not matcher_of(b"*a" * 30 + b"*b")(b"a" * 20_000)


# ---- members of HLLs ----


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_members_are_read_back(members: list[bytes]) -> None:
    assert list(iter_members(hll_of(members))) == members


def hll_of(members: list[bytes]) -> bytes:
    payload = b"\0RS\1"
    for member in members:
        size = len(member)
        payload += b"\x0a" + (bytes((size,)) if size < 128 else bytes((size & 0x7F | 0x80, size >> 7))) + member
    return payload


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0RS", b"\0RS\2", b"HYLL", hll_of([b"m"])[:-1], hll_of([b"m"]) + b"\x0a", hll_of([]) + b"\x12\x01x",
     hll_of([]) + b"\x0a" + b"\x80" * 10 + b"\x01", hll_of([]) + b"\x0a\x80"],
)  # fmt: skip
def test_another_payload_has_no_members(payload: bytes) -> None:
    with pytest.raises(NoMembersError):
        list(iter_members(payload))


# ---- restore ----


def element(element_id: bytes, *fields: bytes) -> bytes:
    return b"\0RXE\1" + text_field(1, element_id) + b"".join(text_field(2, field) for field in fields)


MANY = [b"%04d" % number for number in range(WORDS_AT_ONCE + 1)]
STORE = [
    put(STR + b"binary\r\n\0", 1, envelope(1, b"\r\n$3\r\n\0")),
    put(STR + b"early", 1, envelope(1, b"v", 0)),
    put(STR + b"late", 1, envelope(1, b"v", 2**63 - 1)),
    put(HLL + b"late", 1, b"shadowed"),
    put(HLL + b"set", 1, envelope(2, hll_of(MANY), 5_000)),
    put(HLL + b"empty", 1, hll_of([])),
    put(HLL + b"sketch", 1, b"HYLL"),
]


def restored(
    path: str, *, nx: bool = False, now_ms: int | None = None
) -> tuple[list[list[bytes]], dict[tuple[str, str], int]]:
    with SnapshotKeys(path) as source:
        restore = Restore(source, EVERYTHING, nx=nx, now_ms=now_ms)
        stream = b"".join(restore.iter_commands())
    return commands_in(stream), dict(restore.counts)


def test_every_key_becomes_a_command(tmp_path: Path) -> None:
    commands, counts = restored(write_snapshot(tmp_path, STORE))
    assert commands == [
        [b"SET", b"binary\r\n\0", b"\r\n$3\r\n\0"],
        [b"SET", b"early", b"v", b"PXAT", b"1"],
        [b"DEL", b"empty"],
        [b"PFADD", b"empty"],
        [b"SET", b"late", b"v", b"PXAT", b"9223372036854775807"],
        [b"DEL", b"set"],
        [b"PFADD", b"set", *MANY[:WORDS_AT_ONCE]],
        [b"PFADD", b"set", *MANY[WORDS_AT_ONCE:]],
        [b"PEXPIREAT", b"set", b"5000"],
    ]
    assert counts == {STRINGS: 3, HLLS: 2, NO_SETS: 1}


COLLECTIONS = [
    put(b"!hs|fld|" + sized(b"h") + b"f", 1, b"v"), put(TTL + b"h", 1, expiry(5_000)),
    put(b"!lst|itm|l" + bytes(8), 1, b"item"),
    put(b"!lst|meta|d|" + sized(b"l") + bytes(12), 1, struct.pack(">qq", -(2**63), 1)),
    put(b"!st|mem|" + sized(b"s") + b"m\0", 1, b""),
    put(b"!zs|mem|" + sized(b"z") + b"m", 1, struct.pack(">d", 1e21)),
    put(b"!zs|mem|" + sized(b"z") + b"n", 1, struct.pack(">d", float("inf"))),
    put(b"!stream|meta|" + sized(b"x"), 1, struct.pack(">QQQ", 1, 9, 9)),
    put(b"!stream|entry|" + sized(b"x") + struct.pack(">QQ", 5, 0), 1, element(b"5-0", b"a", b"1")),
    put(b"!stream|meta|" + sized(b"y"), 1, struct.pack(">QQQ", 0, 7, 1)),
    put(b"!st|meta|" + sized(b"empty"), 1, bytes(16)),
]  # fmt: skip


def test_collections_become_commands(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, COLLECTIONS)
    commands, counts = restored(path)
    assert commands == [
        [b"DEL", b"h"], [b"HSET", b"h", b"f", b"v"], [b"PEXPIREAT", b"h", b"5000"],
        [b"DEL", b"l"], [b"RPUSH", b"l", b"item"],
        [b"DEL", b"s"], [b"SADD", b"s", b"m\0"],
        [b"DEL", b"x"], [b"XADD", b"x", b"5-0", b"a", b"1"], [b"XSETID", b"x", b"9-9"],
        [b"DEL", b"y"], [b"XADD", b"y", b"7-1", b"", b""], [b"XDEL", b"y", b"7-1"],
        [b"DEL", b"z"], [b"ZADD", b"z", b"1e+21", b"m", b"+inf", b"n"],
    ]  # fmt: skip
    sent = [(type_, "sent") for type_ in ("hash", "list", "set", "zset")]
    assert counts == {EMPTY: 1, ("stream", "sent"): 2} | dict.fromkeys(sent, 1)
    # A dump gives the same commands.
    files = model.expected_dump(COLLECTIONS, 10**9).files
    with DumpKeys(write_files(tmp_path / "dump", files), verify=False) as source:
        stream = b"".join(Restore(source, EVERYTHING, nx=False, now_ms=None).iter_commands())
    assert commands_in(stream) == commands


def test_nx_builds_a_collection_under_another_name(tmp_path: Path) -> None:
    commands, _ = restored(write_snapshot(tmp_path, COLLECTIONS[:2]), nx=True)
    name = commands[0][1]
    assert name.startswith(b"ekvdump:restoring:")
    assert [words[:2] for words in commands] == [
        [b"DEL", name], [b"HSET", name], [b"PEXPIREAT", name], [b"RENAMENX", name], [b"DEL", name],
    ]  # fmt: skip


def test_large_collections_are_sent_in_several_commands(tmp_path: Path) -> None:
    entries = [put(b"!st|mem|" + sized(b"s") + member, 1, b"") for member in MANY]
    entries.append(put(b"!hs|fld|" + sized(b"h") + b"f", 1, b"v" * 2**20))
    entries.append(put(b"!hs|fld|" + sized(b"h") + b"g", 1, b"v"))
    commands, _ = restored(write_snapshot(tmp_path, entries))
    assert [(words[0], len(words)) for words in commands] == [
        (b"DEL", 2), (b"HSET", 4), (b"HSET", 4), (b"DEL", 2), (b"SADD", WORDS_AT_ONCE + 2), (b"SADD", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "elements",
    [
        [element(b"5-0")], [element(b"x", b"a", b"1")], [element(b"0-0", b"a", b"1")],
        [element(b"5-0", b"a", b"1"), element(b"5-0", b"a", b"1")],
    ],
)  # fmt: skip
def test_a_stream_that_xadd_does_not_take_is_counted(elements: list[bytes], tmp_path: Path) -> None:
    entries = [put(b"!stream|meta|" + sized(b"x"), 1, struct.pack(">QQQ", 1, 9, 9))]
    for number, body in enumerate(elements):
        entries.append(put(b"!stream|entry|" + sized(b"x") + struct.pack(">QQ", number, 1), 1, body))
    assert restored(write_snapshot(tmp_path, entries)) == ([], {NO_XADD: 1})


def test_of_two_types_under_one_key_of_a_foreign_dump_the_first_is_sent(tmp_path: Path) -> None:
    files = {"redis/db_0/strings/k.bin": b"v", "redis/db_0/hll/k.bin": hll_of([b"m"])}
    with DumpKeys(write_files(tmp_path, files), verify=False) as source:
        restore = Restore(source, EVERYTHING, nx=False, now_ms=None)
        assert commands_in(b"".join(restore.iter_commands())) == [[b"SET", b"k", b"v"]]
        assert dict(restore.counts) == {STRINGS: 1, BEHIND_OTHERS: 1}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("sets/s.json", b""), ("sets/s.json", b"{}"), ("sets/s.json", b'{"members":["a"],"expire_at_ms":null}'),
        ("sets/s.json", b'{\n  "format_version": 1,\n  "members": [\n    "a"\n'),
        ("sets/s.json", b'{\n  "format_version": 2,\n  "members": [\n    "a"\n  ],\n  "expire_at_ms": null\n}'),
        ("sets/s.json", b'{\n  "format_version": 1,\n  "members": [\n    5\n  ],\n  "expire_at_ms": null\n}'),
        ("hashes/h.json", b'{\n  "format_version": 1,\n  "fields": [\n    "a"\n  ],\n  "expire_at_ms": null\n}'),
        ("hashes/h.json", b'{\n  "format_version": 1,\n  "fields": [\n    {\n    }\n  ],\n  "expire_at_ms": null\n}'),
        ("streams/x.jsonl", b'junk\n{"_meta":true,"length":0,"last_ms":0,"last_seq":0,"expire_at_ms":null}\n'),
        ("streams/x.jsonl", b'{"id":5}\n{"_meta":true,"length":0,"last_ms":0,"last_seq":0,"expire_at_ms":null}\n'),
        ("streams/x.jsonl", b'{"id":"1-0","fields":[]}\n'),
    ],
)  # fmt: skip
def test_read_35_a_blob_that_is_no_document_is_a_finding(path: str, content: bytes, tmp_path: Path) -> None:
    directory = write_files(tmp_path, {f"redis/db_0/{path}": content})
    with DumpKeys(directory, verify=False) as source, pytest.raises(Finding, match=r"\[invalid-document, READ-35\]"):
        found_in(source)


def test_nx_leaves_what_the_server_has(tmp_path: Path) -> None:
    commands, _ = restored(write_snapshot(tmp_path, STORE[1:2] + STORE[4:5]), nx=True)
    assert commands[0] == [b"SET", b"early", b"v", b"PXAT", b"1", b"NX"]
    name = commands[1][1]
    assert name.startswith(b"ekvdump:restoring:")
    assert [words[:2] for words in commands[1:]] == [
        [b"DEL", name], [b"PFADD", name], [b"PFADD", name], [b"PEXPIREAT", name], [b"RENAMENX", name], [b"DEL", name],
    ]  # fmt: skip
    assert commands[-2] == [b"RENAMENX", name, b"set"]


@pytest.mark.parametrize(("now_ms", "skipped"), [(-1, 0), (0, 1), (4_999, 1), (5_000, 2)])
def test_what_has_expired_is_skipped(now_ms: int, skipped: int, tmp_path: Path) -> None:
    _, counts = restored(write_snapshot(tmp_path, STORE), now_ms=now_ms)
    assert counts.get(EXPIRED, 0) == skipped


# ---- differences ----


class KeysInMemory:
    """A source whose payloads come in pieces of one size."""

    def __init__(self, keys: dict[tuple[bytes, str], tuple[bytes, int | None]], size: int = 1) -> None:
        self._keys = keys
        self._size = size

    def __enter__(self) -> "KeysInMemory":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_keys(self, selection: Selection) -> Iterator[Key]:
        for (user_key, type_), (payload, expiry_ms) in sorted(
            self._keys.items(), key=lambda each: (model.canonical(each[0][0]), each[0][1] == "hll")
        ):
            yield self.key(user_key, type_, payload, expiry_ms)

    def key(self, user_key: bytes, type_: str, payload: bytes, expiry_ms: int | None) -> Key:
        def iter_pieces() -> Iterator[bytes]:
            for begin in range(0, len(payload), self._size):
                yield payload[begin : begin + self._size]

        return Key(user_key, type_, len(payload), expiry_ms, iter_pieces)

    def omissions(self) -> list[object]:
        return []

    def check_unchanged(self) -> None:
        pass


FEW_KEYS = st.dictionaries(
    st.tuples(st.sampled_from([b"", b"a", b"a\xff", b"ab", b"b"]), st.sampled_from(["string", "hll"])),
    st.tuples(st.sampled_from([b"", b"one", b"two", b"three"]), st.sampled_from([None, 0, 5])),
)


@given(FEW_KEYS, FEW_KEYS)
def test_differences_are_those_of_two_tables(
    first: dict[tuple[bytes, str], tuple[bytes, int | None]], second: dict[tuple[bytes, str], tuple[bytes, int | None]]
) -> None:
    found: list[Difference] = list(iter_differences(KeysInMemory(first, 1), KeysInMemory(second, 2), EVERYTHING))  # type: ignore[arg-type]
    kinds = {}
    for name in first.keys() | second.keys():
        if name not in first:
            kinds[name] = "added"
        elif name not in second:
            kinds[name] = "removed"
        elif first[name][0] != second[name][0]:
            kinds[name] = "value"
        elif first[name][1] != second[name][1]:
            kinds[name] = "expiry"
    assert {(each.key.user_key, each.key.type): each.kind for each in found} == kinds
    names = [(model.canonical(each.key.user_key), each.key.type == "hll") for each in found]
    assert names == sorted(names)
    for each in found:
        name = (each.key.user_key, each.key.type)
        for table, key in ((first, each.before), (second, each.after)):
            assert (key is None) == (name not in table)


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(1, 4), st.integers(1, 4))
def test_payloads_are_compared_whatever_their_pieces(one: bytes, other: bytes, size: int, size_of_other: int) -> None:
    key = KeysInMemory({}, size).key(b"k", "string", one, None)
    for payload in (one, other):
        other_key = KeysInMemory({}, size_of_other).key(b"k", "string", payload, 5)
        assert have_same_payload(key, other_key) == (one == payload)
