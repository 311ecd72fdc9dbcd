"""The worked examples of the spec mean what it says: every block that has a name is decoded here."""

import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ekvconform.cases.loading import load_cases
from ekvconform.cases.snapshots import decode_bytes
from ekvdump.verify.segments import decode_segment, needs_keymap
from ekvformat import keys
from ekvformat.checksums import render_checksum_line, sha256_of
from ekvformat.collections import decode_meta
from ekvformat.completeness import Counters
from ekvformat.conventions import Cursor
from ekvformat.decode import Options, decode
from ekvformat.keymap import render_keymap_line
from ekvformat.outcomes import Fault
from ekvformat.redis_hashes import decode_packed_hash
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_sets import decode_packed_set
from ekvformat.redis_streams import decode_element
from ekvformat.redis_strings import decode_string_value
from ekvformat.redis_ttls import decode_ttl_value
from ekvformat.redis_zsets import decode_packed_zset, render_score
from ekvformat.segments import encode_segment
from ekvformat.snapshot_file import Entry, decode_snapshot_file
from ekvformat.user_keys import META, PACKED, place_of
from ekvformat.visibility import Record, applied_index_of, decode_version, is_operational, visible_records
from in_process import read_tree
from reference_runs import all_files, files_of, summary_of, write_dump
from writer import HLL, STR, TTL, envelope, expiry, put, snapshot

from spec import TEXTS, blocks, hex_blocks, text_of

CASES = {case.id: case for case in load_cases()}
TEXT = blocks("text")


def columns(name: str) -> list[list[str]]:
    """Return the lines of a block as cells, which two or more spaces separate."""
    return [re.split(r" {2,}", line) for line in TEXT[name].splitlines()]


def rows(file: str, head: str) -> list[list[str]]:
    """Return the rows of the table of a chapter that has this heading line, without Markdown's marks."""
    lines = text_of(file).split(f"{head}\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip(" `[]") for cell in line.strip("|").split("|")] for line in lines[1:]]


# ---- bytes ----


def text_and_number(data: bytes) -> tuple[bytes, int]:
    cursor = Cursor(data, "truncated")
    return cursor.take(2, "text", "CONV-7"), cursor.u32_be("number", "CONV-7")


def files(data: bytes) -> dict[str, bytes]:
    return all_files(decode(data))


def operational_entries(data: bytes) -> tuple[int, int | None]:
    entries = decode_snapshot_file(data).entries
    return sum(is_operational(entry) for entry in entries), applied_index_of(entries)


def version(data: bytes) -> tuple[bytes, int, bytes]:
    found = decode_version(Entry(data[:9], 0, data[9:], 9))
    return found.storage_key, found.commit_ts, found.body


def unreadable_clause(data: bytes) -> str:
    with pytest.raises(Fault, match=r"\[invalid-value, ") as refusal:
        decode_string_value(data)
    return refusal.value.clause


def size(data: bytes) -> int:
    return len(data)


def record(body: bytes) -> Record:
    return Record(b"", body, 0)


def meta(data: bytes) -> tuple[int, int | None]:
    found = decode_meta({META: {b"": record(data)}})
    return found.length, found.expiry_ms


HEX: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "conv-example": (text_and_number, (b"!r", 42)),
    "file-empty": (files, {}),
    "file-header-v2": (lambda data: (len(data), files(data)), (48, {})),
    "file-one-entry": (files, {"redis/db_0/strings/a.bin": b"hi"}),
    "visi-operational": (operational_entries, (2, 10_000)),
    "visi-entry": (version, (b"a", 30, b"new")),
    "keys-lookalike": (lambda data: (data.startswith(b"!redis|str|"), keys.type_of(data[:-8])), (True, keys.UNKNOWN)),
    "envl-string-with-expiry": (decode_string_value, (b"hi", 1_700_000_000_000)),
    "envl-string-without-expiry": (decode_string_value, (b"", None)),
    "envl-legacy": (decode_string_value, (b"\xff", None)),
    "envl-unreadable": (unreadable_clause, "ENVL-5"),
    "envl-hll": (decode_hll_value, (b"HY", None)),
    "coll-meta": (meta, (2, 1_700_000_000_000)),
    "coll-packed": (lambda data: decode_packed_set(record(data)), {b"a", b"b"}),
    "rhas-packed": (lambda data: decode_packed_hash(record(data)), {b"a": b"1"}),
    "rzse-packed": (lambda data: decode_packed_zset(record(data)), {b"a": 0.0}),
    "rstm-element": (lambda data: decode_element(record(data)), (b"5-1", [(b"a", b"1")])),
    "rttl-record": (decode_ttl_value, 1_700_000_000_000),
    "salv-unreadable": (unreadable_clause, "ENVL-4"),
    "hand-snapshot": (size, 309),
}


@pytest.mark.parametrize("name", HEX)
def test_bytes_mean_what_the_spec_says(name: str) -> None:
    read, meaning = HEX[name]
    assert read(hex_blocks()[name]) == meaning


def test_every_example_is_decoded_here() -> None:
    assert set(hex_blocks()) == set(HEX)
    tests = Path(__file__).read_text() + (Path(__file__).parent / "test_manifest.py").read_text()
    named = {*TEXT, *blocks("json")}
    assert [name for name in sorted(named) if f'"{name}"' not in tests and name != "mani-example"] == []
    for path, text in TEXTS.items():
        assert (
            re.findall(r"^```[a-z]*\n(?=[^\n])", re.sub(r"^```$\n\n", "", text, flags=re.MULTILINE), re.MULTILINE) == []
        ), f"{path.name}: an example without a name"


def test_a_snapshot_decoded_by_hand(tmp_path: Path) -> None:
    data = hex_blocks()["hand-snapshot"]
    lines = [line[49:].split() for line in blocks("hex")["hand-snapshot"].splitlines()]
    offset = 0
    for line, words in zip(blocks("hex")["hand-snapshot"].splitlines(), lines, strict=True):
        assert int(words[0]) == offset
        offset += len(bytes.fromhex(line.split("  ")[0]))

    name = "0000000000002710.fsm"
    assert write_dump(data, tmp_path / "out", name=name) == []
    assert read_tree(tmp_path / "out") == {
        "redis/db_0/strings/k.bin": b"hi",
        "redis/db_0/strings/b%2F1.bin": b"x",
        "redis/db_0/strings_ttl.jsonl": TEXT["hand-strings-ttl"].encode(),
        "MANIFEST.json": blocks("json")["hand-manifest"].encode(),
        "CHECKSUMS": TEXT["hand-checksums"].encode(),
    }


# ---- the format ----


def test_the_faults_of_each_kind_of_place_are_those_of_their_cases() -> None:
    table = rows("02-outcomes.md", "| fault | clause | place | what is wrong | case |")
    assert len(table) == 6
    for fault, clause, place, _, case in table:
        found = {(each.fault, each.clause, each.offset, each.path) for each in CASES[case].allowed}
        if place.startswith("offset "):
            assert (fault, clause, int(place.split()[1]), None) in found
        else:
            path = b"{snapshot}" if place == "the path of the snapshot" else place.encode()
            assert (fault, clause, None, path) in found


def test_the_findings_of_each_kind_are_those_of_their_cases() -> None:
    table = rows("28-verification.md", "| finding | clause | path | what is wrong | case |")
    assert len({finding for finding, *_ in table}) == len(table) == 28
    for finding, clause, path, _, name in table:
        case = CASES[name]
        assert any(path in expected.findings.get(finding, []) for expected in case.allowed), name
        assert clause in case.clauses, name


def test_visi_18_visi_20_records_leave_in_canonical_order() -> None:
    found: list[tuple[bytes, bytes]] = []
    for line in TEXT["visi-versions"].splitlines()[1:]:
        key, value = bytes.fromhex(line[:48].strip()), line[48:79].split()
        if value:
            text = value[-1].strip("`") if "`" in value[-1] else ""
            found.append((key, bytes([int(value[0], 16)]) + bytes(8) + text.encode()))
        else:
            found[-1] = (found[-1][0] + key, found[-1][1])
    assert found == sorted(found)
    counters = Counters()
    entries = [Entry(key, 0, value, 0) for key, value in found]
    records = sorted(visible_records(entries, 30, counters), key=lambda record: len(record.storage_key), reverse=True)
    assert [(record.storage_key, record.body) for record in records] == [(found[1][0][:-8], b"x"), (b"a", b"new")]
    assert (counters.entries["history"], counters.entries["future"], counters.entries["deleted"]) == (1, 1, 1)


def test_keys_1_types_of_keys() -> None:
    lines = TEXT["keys-types"].splitlines()[1:]
    assert len(lines) == 5
    for line in lines:
        assert keys.type_of(line[:26].strip().encode()) == line[26:37].strip()


def test_keys_9_beginnings_of_unknown_keys() -> None:
    table = columns("keys-beginnings")
    assert len(table) == 3
    for key, beginning, _ in table:
        (warning,) = summary_of(put(key.encode(), 1, b"v")).warnings
        assert (warning.name, warning.about) == ("unknown-prefix", (beginning,))


def test_rstr_4_what_becomes_of_strings() -> None:
    table = columns("rstr-becomes")[1:]
    entries = [put(key.encode(), 1, bytes.fromhex(body)) for key, body, _ in table]
    assert files_of(*entries) == {
        "strings/a.bin": b"hi",
        "strings/b.bin": b"hi",
        "strings_ttl.jsonl": b'{"key":"b","expire_at_ms":42}\n',
    }
    words = [what for _, _, what in table]
    assert words[0] == "strings/a.bin, which holds `hi`"
    assert words[1] == "strings/b.bin, which holds `hi`"
    assert words[2] == '{"key":"b","expire_at_ms":42} in strings_ttl.jsonl'
    assert summary_of(*entries).counters.strings["shadowed"] == 1


def described_entries(name: str) -> list[tuple[bytes, bytes]]:
    r"""Return the entries of an example: storage keys and bodies, in which `\\xHH` stands for a byte."""
    lines = [[decode_bytes(cell) for cell in cells] for cells in columns(name)[1:]]
    return [put(cells[0], 1, cells[1] if len(cells) > 1 else b"") for cells in lines]


def test_type_1_type_2_parts_of_storage_keys() -> None:
    table = columns("type-parts")[1:]
    assert len(table) == 6
    for storage_key, *cells in table:
        place = place_of(Record(decode_bytes(storage_key), b"", 0))
        if place is None:
            assert cells[0].startswith("a stray: ")
            continue
        *parts, kind = cells
        assert [place.user_key, place.suffix][: len(parts)] == list(map(decode_bytes, parts))
        assert len(parts) == 2 or place.suffix == b""
        named = f"{place.kind} record of a {place.type}" if place.kind == PACKED else f"{place.kind} of a {place.type}"
        assert kind == named


STORED = {
    "a string": [put(STR + b"k", 1, b"s")],
    "a bare string": [put(b"k", 1, b"b")],
    "an HLL": [put(HLL + b"k", 1, b"h")],
    "a hash's meta and elements": [put(b"!hs|meta|\0\0\0\1k", 1, bytes(8)), put(b"!hs|fld|\0\0\0\1kf", 1, b"v")],
    "a hash's meta": [put(b"!hs|meta|\0\0\0\1k", 1, bytes(8))],
    "a set's delta": [put(b"!st|meta|d|\0\0\0\1k" + bytes(12), 1, bytes(8))],
    "a packed hash": [put(b"!redis|hash|k", 1, b"\0RH\1\x0a\3\x0a\1f")],
    "list items and claims": [put(b"!lst|itm|k" + bytes(8), 1, b"i"), put(b"!lst|claim|\0\0\0\1k" + bytes(8), 1, b"")],
}
"""What an example calls the records of a user key = its entries."""


def test_type_4_which_type_a_user_key_has() -> None:
    table = columns("type-which")[1:]
    assert len(table) == 5
    for stored, becomes in table:
        entries = [entry for words in stored.split(", ") for entry in STORED[words]]
        found = files_of(*entries)
        type_ = re.split("[;:,]", becomes)[0]
        directories = {"string": "strings", "hll": "hll", "set": "sets", "hash": "hashes"}
        assert [path.split("/")[0] for path in found] == ([directories[type_]] if type_ in directories else [])
        counters = summary_of(*entries).counters
        shadowed = sum(group["shadowed"] for group in (counters.strings, *counters.by_type.values()))
        orphans = sum(group["orphan"] for group in counters.by_type.values())
        assert (shadowed > 0, orphans > 0) == ("shadowed" in becomes, "orphans" in becomes)
        if "COLL-6" in becomes:
            assert b'"name": "f"' in found["hashes/k.json"]


def test_coll_18_a_document() -> None:
    meta = put(b"!st|meta|\0\0\0\1s", 1, bytes(8) + expiry(1_700_000_000_000))
    found = files_of(meta, put(b"!st|mem|\0\0\0\1sa", 1, b""))
    assert found["sets/s.json"].decode() + "\n" == blocks("json")["coll-document"]


@pytest.mark.parametrize(
    ("records", "document", "path"),
    [
        ("rhas-records", "rhas-document", "hashes/h.json"), ("rlis-records", "rlis-document", "lists/l.json"),
        ("rset-records", "rset-document", "sets/s.json"),
    ],
)  # fmt: skip
def test_the_documents_of_collections(records: str, document: str, path: str) -> None:
    assert files_of(*described_entries(records))[path].decode() + "\n" == blocks("json")[document]


def test_rzse_3_a_packed_zset() -> None:
    found = files_of(put(b"!redis|zset|z", 1, hex_blocks()["rzse-packed"]))
    assert found["zsets/z.json"].decode() + "\n" == blocks("json")["rzse-document"]


def test_rzse_6_scores() -> None:
    table = columns("rzse-scores")
    assert len(table) == 11
    for bits, written in table:
        assert render_score(struct.unpack(">d", bytes.fromhex(bits))[0]) == written


def test_rstm_9_the_lines_of_a_stream() -> None:
    assert files_of(*described_entries("rstm-records"))["streams/s.jsonl"].decode() == TEXT["rstm-lines"]


def test_rttl_14_a_line() -> None:
    entry = put(STR + b"a b", 1, envelope(1, b"v", 1_700_000_000_000))
    assert files_of(entry)["strings_ttl.jsonl"].decode() == TEXT["rttl-line"]


def test_rttl_15_the_order_of_lines() -> None:
    entries = []
    table = columns("rttl-order")[1:]
    for key, stored, *_ in table:
        name = key.encode()
        if stored == "envelope":
            entries.append(put(STR + name, 1, envelope(1, b"v", 1)))
        else:
            entries += [put(name if stored == "bare" else STR + name, 1, b"v"), put(TTL + name, 1, expiry(1))]
    lines = files_of(*entries)["strings_ttl.jsonl"].splitlines()
    assert [json.loads(line)["key"] for line in lines] == [key for key, *_ in table]


def test_segm_1_segm_7_segments() -> None:
    named = {"(empty)": b"", "80 times %": b"%" * 80, "81 times %": b"%" * 81}
    table = columns("segm-segments")[1:]
    assert len(table) == 8
    for key, segment in table:
        found = encode_segment(named.get(key, key.encode()))
        if key == "80 times %":
            assert (found, segment) == ("%25" * 80, "80 times %25 (240 bytes)")
        elif key == "81 times %":
            digits = hashlib.sha256(b"%" * 81).hexdigest()[:32]
            assert (found, segment) == (f"{digits}__{'%25' * 64}", "the fallback form")
        else:
            assert found == segment.removeprefix("(empty): the blob is `.bin`")


def test_kmap_1_a_line() -> None:
    assert render_keymap_line(encode_segment(b"b64.x"), b"b64.x").decode() == TEXT["kmap-line"]


def test_kmap_3_the_order_of_lines() -> None:
    entries = [
        put(HLL + b"b64.c", 1, b"h"),
        *(put(STR + b"b64." + letter, 1, b"s") for letter in (b"a", b"d")),
        put(b"b64.b", 1, b"s"),
    ]
    assert files_of(*entries)["KEYMAP.jsonl"].decode() == TEXT["kmap-order"]


def test_sums_1_sums_2_lines() -> None:
    lines = [
        render_checksum_line(path, sha256_of(content))
        for path, content in ((b"redis/db_0/strings/a.bin", b"hi"), (b"redis/db_0/strings/a\nb", b""))
    ]
    assert b"".join(lines).decode() == TEXT["sums-lines"]


# ---- writing safely, and reading ----


def test_into_6_into_7_a_second_and_a_third_run(tmp_path: Path) -> None:
    out = tmp_path / "d"
    a, b = put(STR + b"a", 1, envelope(1, b"one")), put(STR + b"b", 1, envelope(1, b"one"))
    one, two = snapshot([a, b]), snapshot([put(STR + b"a", 1, envelope(1, b"two"))])
    write_dump(one, out, name="one.fsm")
    (warning,) = write_dump(two, out, name="two.fsm", into_existing=True)
    assert (warning.name, warning.about) == ("stale-file", ("redis/db_0/strings/b.bin",))
    tree = read_tree(out)
    names = [line.split()[0] for line in TEXT["into-stale"].splitlines() if line.startswith("d/")]
    assert sorted(names) == sorted(f"d/{path}" for path in tree)
    assert tree["redis/db_0/strings/a.bin"] == b"two"
    assert tree["redis/db_0/strings/b.bin"] == b"one"
    outcome = json.loads(tree["MANIFEST.json"])["outcome"]
    assert not outcome["complete"]
    assert outcome["partial_reasons"] == [{"reason": "stale-file", "about": "redis/db_0", "count": 1}]

    assert write_dump(two, out, Options(database=1), name="two.fsm", into_existing=True) == []
    manifest = json.loads((out / "MANIFEST.json").read_text())
    assert manifest["adapters"]["redis"]["databases"] == [0, 1]
    assert manifest["outcome"]["complete"]
    assert manifest["outcome"]["earlier"] == json.loads(blocks("json")["into-earlier"])


def test_salv_6_a_line() -> None:
    data = snapshot([put(STR + b"k", 1, hex_blocks()["salv-unreadable"])])
    dump = decode(data, "", Options(salvage=True))
    assert dump.sidecars["redis/db_0/unreadable.jsonl"].decode() == TEXT["salv-line"]


def test_read_1_read_5_segments() -> None:
    table = columns("read-segments")[1:]
    assert len(table) == 7
    for segment, meaning in table:
        name, _, clause = meaning.partition(", ")
        if name == "needs-keymap":
            assert (needs_keymap(segment), clause) == (True, "READ-2")
        elif clause:
            with pytest.raises(Fault) as caught:
                decode_segment(segment)
            assert (caught.value.name, caught.value.clause) == (name, clause)
        else:
            assert decode_segment(segment).decode() == meaning
