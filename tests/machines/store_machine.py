"""A store whose snapshots are decoded as the model says, for machines that write, overwrite and delete in it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import model
import pytest
from collection_stores import sized
from ekvformat.decode import Options, Summary, decode
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from ekvformat.safe_writing import Tree
from failures import expected_of, save_case
from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, rule
from in_process import read_tree
from reach import Reach
from reference_runs import WALL_TIME, reasons_of
from writer import (
    HEADER_V1,
    HLL,
    STR,
    TTL,
    Entry,
    delete,
    envelope,
    expiry,
    header_v2,
    operational,
    put,
    snapshot,
    version_suffix,
    writers_row,
)

# A small universe, so that rules meet: chains of prefixes, among them one whose next bytes look like a version suffix,
# names of each form, and the key of an operational entry.
KEYS = (b"", b"a", b"a" + version_suffix(3), b"a" + version_suffix(3) + b"b", b"\xff", b"b64.x", b"_meta_applied_index")
USER_KEYS = st.sampled_from(KEYS)
PREFIXES = {"string": STR, "hll": HLL, "ttl": TTL, "bare": b""}
LAST_COMMIT = 10
EARLIER = st.integers(1, LAST_COMMIT)
TIMES = {"earlier": EARLIER, "later": st.just(LAST_COMMIT), "beyond": st.integers(LAST_COMMIT + 1, LAST_COMMIT + 4)}
MOMENTS = st.sampled_from([*TIMES, "earlier"]).flatmap(lambda when: TIMES[when])
EXPIRIES = st.none() | st.sampled_from([0, 1, 1_700_000_000_000, 2**63 - 1, 2**63, 2**64 - 1])
PAYLOADS = st.sampled_from([b"", b"v", b"\xff\x01", b"\xff\x02\x01", b"other"])
OTHER_ROWS = {
    b"!nobody|knows|this": "unknown row", b"!redis|str": "unknown row", b"!x" + b"y" * 70: "unknown row",
    b"!txn|x": "internal row", b"!s3|gc|upload|u": "internal row",
    b"!hs|meta|d|k": "stray", b"!lst|itm|k": "stray",
    b"!ddb|item|t": "undecoded row", b"!s3|blob|b": "undecoded row", b"!sqs|msg|vis|m": "undecoded row",
}  # fmt: skip
DAMAGES = {
    "empty row": (TTL, b""), "short row": (TTL, bytes(7)), "long row": (TTL, bytes(9)),
    "string without flags": (STR, b"\xff\x01"), "string with half an expiry": (STR, b"\xff\x01\x01short"),
    "HLL without flags": (HLL, b"\xff\x02"), "HLL with half an expiry": (HLL, b"\xff\x02\x01short"),
    "cut meta of a list": (b"!lst|meta|", bytes(7)), "packed set without its magic": (b"!redis|set|", b"junk"),
}  # fmt: skip
UNSIZED = {b"!lst|meta|": "damaged collection", b"!redis|set|": "damaged collection", TTL: "TTL record of another size"}
OTHERS = st.lists(st.sampled_from(list(OTHER_ROWS)), max_size=2)
KEYS_OF_ROWS = st.lists(USER_KEYS, max_size=2)


class Run(NamedTuple):
    """How a store is written to a file, and decoded."""

    header: str
    has_footer: bool
    only: frozenset[str] | None
    salvage: bool
    again: bool
    database: int


HEADERS = {"header v1": HEADER_V1, "header v2": header_v2(), "header v2 with more": header_v2(b"new"), "no header": b""}

WITH_A_FOOTER = [(header, True) for header in HEADERS]
WITHOUT_A_FOOTER = [("no header", False), ("no header", False), ("header v1", False)]

RUNS = st.builds(
    lambda container, *rest: Run(*container, *rest),
    st.sampled_from([*WITH_A_FOOTER, *WITHOUT_A_FOOTER]),
    st.sampled_from([None, None, None, frozenset({"strings"}), frozenset({"hll", "sets", "lists"})]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 12]),
)

COMMON_COUNTERS = {
    ("entries", "future"): "VISI-14", ("entries", "history"): "VISI-11", ("entries", "deleted"): "VISI-12",
    ("ttls", "applied"): "RTTL-4", ("ttls", "redundant"): "RTTL-5", ("ttls", "orphan"): "RTTL-10",
    ("ttls", "unreadable"): "SALV-3",
}  # fmt: skip
STRING_COUNTERS = {
    ("entries", "operational"): "VISI-9", ("entries", "expired"): "VISI-13", ("entries", "internal"): "KEYS-4",
    ("entries", "unknown"): "KEYS-8", ("entries", "undecoded"): "KEYS-5", ("entries", "string"): "RSTR-1",
    ("entries", "bare"): "RSTR-2", ("entries", "hll"): "RHLL-1", ("entries", "ttl"): "RTTL-1",
    ("strings", "shadowed"): "RSTR-4", ("strings", "excluded"): "COMP-2", ("strings", "unreadable"): "SALV-1",
}  # fmt: skip
COLLECTION_COUNTERS = {
    ("hashes", "written"): "RHAS-3", ("lists", "written"): "RLIS-7", ("sets", "written"): "RSET-3",
    ("zsets", "written"): "RZSE-5", ("streams", "written"): "RSTM-9", ("lists", "unread"): "RLIS-6",
    ("zsets", "unread"): "RZSE-4", ("streams", "unread"): "RSTM-4", ("sets", "shadowed"): "TYPE-5",
    ("hashes", "orphan"): "TYPE-2", ("lists", "orphan"): "TYPE-6", ("hashes", "excluded"): "COMP-12",
    ("lists", "unreadable"): "SALV-10", ("sets", "unreadable"): "COLL-16",
}  # fmt: skip
COUNTERS = COMMON_COUNTERS | STRING_COUNTERS | COLLECTION_COUNTERS
"""What a counter above 0 shows to have been needed."""
COMMON = {
    *COMMON_COUNTERS.values(), "string in an envelope", "TTL record", "hash and its TTL record", "delete",
    "TTL record of another size", "overwritten", "expiry 0", "clamped expiry", "complete", "partial", "again", "KMAP-1",
    "SEGM-4", "VISI-15", "VISI-17", "no footer", "another database", *HEADERS, "refused FILE-19", "refused RTTL-1",
    "warning no-footer", "warning future-version", "warning orphan-ttl", "warning unreadable-value",
}  # fmt: skip
"""What every machine with a store has to reach."""
OF_STRINGS = {
    *STRING_COUNTERS.values(), "string as it is", "bare string", "HLL in an envelope", "HLL as it is",
    "value and its TTL record", "cut envelope", "expire", "expire after the last commit", "operational entry",
    "internal row", "unknown row", "undecoded row", "ignored flags", "refused ENVL-4", "refused ENVL-5",
    "warning unknown-prefix", "warning undecoded-type",
}  # fmt: skip
OF_COLLECTIONS = {
    *COLLECTION_COUNTERS.values(), "stray", "damaged collection", "refused RLIS-1", "refused COLL-9",
    "element and its delta", "meta", "packed collection", "packed collection made wide", "deltas alone", "push", "pop",
    "pop that left its item", "stream element", "trimmed stream", "deleted collection",
}  # fmt: skip


def write(path: Path, out: Path, options: Options) -> Summary:
    """Decode a snapshot into a directory, with the reference."""
    tree = Tree(str(out), options.database, into_existing=False, sync=False)
    tree.check(str(path))
    dump = decode(path.read_bytes(), str(path), options)
    tree.write(dump, Provenance(str(path), WALL_TIME), lambda: None)
    return dump.summary


class Store(RuleBasedStateMachine):
    """Plays a live store; the model says what a client could have read."""

    reach: Reach

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[bytes, bytes] = {}
        self.damaged: set[bytes] = set()

    def add(self, rule_name: str, entries: Sequence[Entry]) -> None:
        self.reach(rule_name)
        for key, value in entries:
            if key in self.entries:
                self.reach("overwritten")
            self.entries[key] = value

    def note_expiry(self, ms: int | None) -> None:
        if ms is not None:
            self.reach(*(["expiry 0"] if ms == 0 else ["clamped expiry"] if ms > model.MOST_MS else []))

    # ---- what clients do ----

    @rule(key=USER_KEYS, ts=MOMENTS, payload=PAYLOADS, ms=EXPIRIES, flags=st.sampled_from([0, 0xFE]))
    def set_string(self, key: bytes, ts: int, payload: bytes, ms: int | None, flags: int) -> None:
        self.reach(*(["ignored flags"] if flags else []))
        self.note_expiry(ms)
        self.add("string in an envelope", [put(STR + key, ts, envelope(1, payload, ms, other_flags=flags))])

    @rule(key=USER_KEYS, ts=MOMENTS, ms=EXPIRIES.filter(lambda ms: ms is not None))
    def set_ttl(self, key: bytes, ts: int, ms: int) -> None:
        self.note_expiry(ms)
        self.add("TTL record", [put(TTL + key, ts, expiry(ms))])

    @rule(kind=st.sampled_from(list(PREFIXES)), key=USER_KEYS, ts=MOMENTS)
    def remove(self, kind: str, key: bytes, ts: int) -> None:
        self.add("delete", [delete(PREFIXES[kind] + key, ts)])

    @rule(key=USER_KEYS, ts=EARLIER)
    def set_hash_with_ttl(self, key: bytes, ts: int) -> None:
        element = put(b"!hs|fld|" + sized(key) + b"f", ts, b"v")
        self.add("hash and its TTL record", [element, put(TTL + key, ts, expiry(8))])

    # ---- what else a store holds ----

    @rule(key=USER_KEYS, ts=EARLIER, what=st.sampled_from(list(DAMAGES)))
    def damage(self, key: bytes, ts: int, what: str) -> None:
        prefix, body = DAMAGES[what]
        name = UNSIZED.get(prefix, "cut envelope")
        entry = put(prefix + key, ts, body)
        self.damaged.add(entry[0])
        self.add(name, [entry])

    @rule(name=st.sampled_from([b"_meta_applied_index", b"_meta_last_commit_ts"]), number=st.integers(0, 9))
    def node_row(self, name: bytes, number: int) -> None:
        self.add("operational entry", [operational(name, number), writers_row()])

    @rule(key=st.sampled_from(list(OTHER_ROWS)), ts=MOMENTS)
    def other_row(self, key: bytes, ts: int) -> None:
        self.add(OTHER_ROWS[key], [put(key, ts, b"x")])

    # ---- what is decoded ----

    # Often, or most of what is written would never be read; and not without what else a store holds.
    @rule(run=RUNS, others=OTHERS)
    def decode(self, run: Run, others: list[bytes]) -> None:
        for key in others:
            self.other_row(key, 1)
        self.decode_with(run)

    @rule(run=RUNS, keys=KEYS_OF_ROWS, key=USER_KEYS, what=st.sampled_from([None, *DAMAGES]))
    def decode_too(self, run: Run, keys: list[bytes], key: bytes, what: str | None) -> None:
        for each in keys:
            self.set_ttl(each, 1, 5)
        # A run is refused for what is damaged first, so there is one such thing, or none.
        for each in self.damaged:
            self.entries.pop(each, None)
        if what is not None:
            self.damage(key, LAST_COMMIT, what)
        self.decode_with(run)

    def decode_with(self, run: Run) -> None:
        start = HEADERS[run.header]
        self.reach(
            run.header, *([] if run.has_footer else ["no footer"]), *(["another database"] if run.database else [])
        )
        entries = sorted(self.entries.items())
        self.note_order([key[:-8] for key, value in entries if not model.is_operational(key, value)])
        data = snapshot(entries, last_commit=LAST_COMMIT, header=start, with_footer=run.has_footer)
        try:
            read = model.read_file(data)
        except model.RefusedError as refused:
            fault, clause, offset = refused.args
            expected = model.Expected(refusal=(fault, clause, b"", offset))
        else:
            only = None if run.only is None else set(run.only)
            expected = model.expected_dump(
                entries, LAST_COMMIT, place=read.place, database=run.database, only=only, salvage=run.salvage
            )
        options = Options(run.database, run.only, run.salvage)
        try:
            self.compare(data, expected, options, run)
        except (Exception, pytest.fail.Exception):
            save_case("conv-found-by-the-producer", data, options, expected_of(expected, has_footer=run.has_footer))
            raise

    def note_order(self, storage_keys: list[bytes]) -> None:
        """Note where other keys' entries come between the versions of one, and where bytes alone give another order."""
        stretches = [key for key, before in zip(storage_keys, [None, *storage_keys], strict=False) if key != before]
        names = set(stretches)
        self.reach(*(["VISI-15"] if len(stretches) > len(names) else []))
        self.reach(*(["VISI-17"] if sorted(names) != sorted(names, key=model.canonical) else []))

    def compare(self, data: bytes, expected: model.Expected, options: Options, how: Run) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "snapshot"
            path.write_bytes(data)
            if expected.refusal is not None:
                self.reach(f"refused {expected.refusal[1]}")
                for out in ("out", "again")[: 1 + how.again]:
                    with pytest.raises(Fault) as caught:
                        write(path, Path(directory, out), options)
                    fault = caught.value
                    assert (fault.name, fault.clause, fault.key or b"", fault.offset) == expected.refusal
                    assert not Path(directory, out, "CHECKSUMS").exists()
                return
            summary = write(path, Path(directory, "out"), options)
            counters = model.expected_counters(expected)
            assert {group: getattr(summary.counters, group) for group in counters} == counters
            self.check_sums(counters)
            self.reach("partial" if reasons_of(summary) else "complete")
            self.reach(*{COUNTERS[key] for key in COUNTERS if counters[key[0]][key[1]]})
            files = read_tree(Path(directory) / "out")
            manifest, checksums = files.pop("MANIFEST.json"), files.pop("CHECKSUMS")
            assert files == expected.files
            self.reach(*(["KMAP-1", "SEGM-4"] if f"redis/db_{how.database}/KEYMAP.jsonl" in files else []))
            reported = json.loads(manifest)
            for warning in reported["outcome"]["warnings"]:
                assert warning.pop("detail")
                self.reach(f"warning {warning['name']}")
            assert reported == model.expected_manifest(
                expected, path=str(path), crc32c=data[-4:].hex() if how.has_footer else None, last_commit=LAST_COMMIT,
                wall_time=WALL_TIME, database=how.database, everything=how.only is None,
            )  # fmt: skip
            assert checksums == model.checksums({**files, "MANIFEST.json": manifest})
            if how.again:
                self.reach("again")
                write(path, Path(directory, "again"), options)
                assert read_tree(Path(directory) / "again") == read_tree(Path(directory) / "out")

    def check_sums(self, counters: dict[str, dict[str, int]]) -> None:
        """Every entry is exactly one thing, and so is every record. [COMP-7] [COMP-8]"""
        entries = counters["entries"]
        assert sum(entries.values()) == len(self.entries)
        assert sum(counters["undecoded"].values()) == entries["undecoded"]
        assert sum(counters["strings"].values()) == entries["string"] + entries["bare"]
        assert sum(counters["hlls"].values()) == entries["hll"]
        assert sum(counters["ttls"].values()) == entries["ttl"]
        for group, type_ in (("hashes", "hash"), ("lists", "list"), ("sets", "set"), ("zsets", "zset")):
            assert sum(counters[group].values()) == entries[type_]
        assert sum(counters["streams"].values()) == entries["stream"]

    def teardown(self) -> None:
        target(float(len(self.entries)), label="entries")
