"""KEYMAP, MANIFEST.json and CHECKSUMS: what is written is read, also after others have edited it, as a model says."""

import base64
import io
import json
from itertools import islice
from typing import Any

import pytest
from ekvdump.verify.checksums import decode_checksum_line
from ekvdump.verify.findings import Finding
from ekvdump.verify.keymap import KeymapLine, iter_keymap
from ekvdump.verify.manifest import decode_manifest
from ekvformat.checksums import render_checksum_line
from ekvformat.completeness import Counters
from ekvformat.decode import Options, Summary
from ekvformat.keymap import render_keymap_line
from ekvformat.manifest import Provenance, render_manifest
from ekvformat.outcomes import Fault
from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from reach import Reach, steps

WALL_TIME = "2026-08-22T12:00:00Z"
# By hand, as MANI-1 says.
EXCLUSIONS = (
    "include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records",
)  # fmt: skip
KEYS = st.binary(max_size=8)
SEGMENTS = st.text(alphabet="0123456789abcdef_.%-", min_size=1, max_size=40)
PARTS = st.sampled_from([b"a", b"b.bin", b".", b"...", b"\n", b"\\", b"\r", b"\xff", b"n", b" "])
PATHS = st.lists(PARTS, min_size=1).map(b"/".join)
HASHES = st.binary(min_size=32, max_size=32).map(lambda data: data.hex().encode())
# A line that nobody can read, and the clause that says so.
BAD_KEYMAP_LINES = {
    b"{": "READ-7", b"[]": "READ-7", b'{"encoded":"x","original":"","kind":null}': "READ-7", b"\xff": "READ-7",
    b'{"encoded":"x","kind":"y"}': "READ-7", b'{"encoded":"","original":"","kind":"y"}': "READ-8",
    b'{"encoded":"x","original":"","kind":""}': "READ-8", b'{"encoded":"x","original":"YQ==","kind":"y"}': "READ-9",
    b'{"encoded":"x","original":"Y","kind":"y"}': "READ-9", b"": "READ-7",
}  # fmt: skip
BAD_CHECKSUM_LINES = {
    b"": "READ-25", b"no hash": "READ-25", b"0" * 63 + b"  x": "READ-25", b"0" * 64 + b" x": "READ-25",
    b"\\" + b"0" * 64 + b"  x\\y": "READ-25", b"0" * 64 + b"  x\0": "READ-25",
    b"0" * 64 + b"  " + b"x" * 8200: "READ-25",
    b"0" * 64 + b"  ": "READ-26", b"0" * 64 + b"  /x": "READ-27", b"0" * 64 + b"  x/../y": "READ-28",
}  # fmt: skip


def of_each_clause(lines: dict[bytes, str]) -> st.SearchStrategy[bytes]:
    """Return lines, such that each clause is as likely as the others."""
    by_clause = [[line for line, clause in lines.items() if clause == each] for each in sorted(set(lines.values()))]
    return st.sampled_from(by_clause).flatmap(st.sampled_from)


# A member of MANIFEST.json, a value that it may not have (None: it is taken away), and the clause that says so.
BAD_MEMBERS: tuple[tuple[str, Any, str], ...] = (
    ("format_version", 2, "READ-14"), ("format_version", None, "READ-14"), ("format_version", True, "READ-14"),
    ("phase", "phase2", "READ-15"), ("wall_time_iso", "yesterday", "READ-16"), ("adapters", [], "READ-17"),
    ("exclusions", None, "READ-17"), ("checksum_format", "", "READ-19"), ("key_segment_max_bytes", 0, "READ-19"),
    ("exclusions", dict.fromkeys(EXCLUSIONS[1:], True), "READ-18"),
    ("exclusions", dict.fromkeys(EXCLUSIONS, 0), "READ-18"), ("live", {}, "READ-20"),
)  # fmt: skip
BY_CLAUSE = [[edit for edit in BAD_MEMBERS if edit[2] == each] for each in sorted({edit[2] for edit in BAD_MEMBERS})]
"""The same by clause, so that each clause is as likely as the others."""
ORDER_OF_MANIFEST = (
    "READ-13", "READ-14", "READ-15", "READ-16", "READ-17", "READ-18", "READ-19", "READ-20", "READ-21", "READ-22",
)  # fmt: skip
"""In which a reader finds what is wrong."""
TAILS = {"": "", "\n": "", " \t\r\n": "", "x": "READ-13", "{}": "READ-13", "\0": "READ-13"}
"""What stands behind the object = the clause that it breaks."""
TEXTS = st.none() | st.text(max_size=3)
U64 = st.sampled_from([1, 2**53 + 1, 2**63, 2**64 - 1])
WANTED = {
    "KEYMAP read", "READ-10", "READ-11", "other kind", "other members", *BAD_KEYMAP_LINES.values(), "CHECKSUMS read",
    "SUMS-2", "binary mark", "capital digits", *BAD_CHECKSUM_LINES.values(), "MANIFEST.json read", "READ-23",
    *ORDER_OF_MANIFEST, "MANIFEST.json written", "phase 1", "mended", "KEYMAP mended", "MANIFEST.json in another form",
}  # fmt: skip
REACH = Reach("readers", WANTED)


class Sidecars(RuleBasedStateMachine):
    """Three files as a dump has them, and what a reader may take from each."""

    def __init__(self) -> None:
        super().__init__()
        self.keymap: list[bytes] = []
        self.keymap_said: list[KeymapLine | str] = []
        """What each line says, or the clause that it breaks."""
        self.sums: list[bytes] = []
        self.sums_said: list[tuple[bytes, bytes] | str] = []
        self.write(Summary(Options(), 0, None, None, Counters(), []), Provenance("s.fsm", WALL_TIME), [])
        self.form: dict[str, Any] = {}
        self.tail = ""
        self.broken: dict[str, str] = {}
        """Member = the clause that its value breaks."""

    def write(self, summary: Summary, provenance: Provenance, databases: list[int]) -> None:
        text = render_manifest(summary, provenance, summary.warnings, databases, b"")
        self.manifest: dict[str, Any] = json.loads(text)
        self.sound = dict(self.manifest)

    def teardown(self) -> None:
        target(float(len(self.keymap) + len(self.sums)), label="lines")

    # ---- KEYMAP ----

    @rule(segment=SEGMENTS, key=KEYS)
    def keymap_line(self, segment: str, key: bytes) -> None:
        line = render_keymap_line(segment, key)
        # Written by hand, as KMAP-1 says.
        original = base64.urlsafe_b64encode(key).decode().rstrip("=")
        assert line == f'{{"encoded":"{segment}","original":"{original}","kind":"sha-fallback"}}\n'.encode()
        self.keymap.append(line)
        self.keymap_said.append(KeymapLine(segment, key, "sha-fallback"))

    @rule(segment=SEGMENTS, key=KEYS, kind=st.sampled_from(["sha-fallback", "s3-leaf-data", "new"]), more=st.booleans())
    def foreign_keymap_line(self, segment: str, key: bytes, kind: str, more: bool) -> None:
        members: dict[str, Any] = {"kind": kind, "encoded": segment}
        members |= {"more": [1, None]} if more else {}
        members["original"] = base64.urlsafe_b64encode(key).decode().rstrip("=")
        self.keymap.append(json.dumps(members).encode() + b"\n")
        self.keymap_said.append(KeymapLine(segment, key, kind))
        REACH(*(["other kind"] if kind != "sha-fallback" else []), *(["other members"] if more else []))

    @rule(line=of_each_clause(BAD_KEYMAP_LINES))
    def bad_keymap_line(self, line: bytes) -> None:
        self.keymap.append(line + b"\n")
        self.keymap_said.append(BAD_KEYMAP_LINES[line])

    @rule()
    def keymap_is_mended(self) -> None:
        REACH("KEYMAP mended")
        sound = [place for place, said in enumerate(self.keymap_said) if not isinstance(said, str)]
        self.keymap = [self.keymap[place] for place in sound]
        self.keymap_said = [self.keymap_said[place] for place in sound]

    @invariant()
    def keymap_is_read(self) -> None:
        good = []
        bad = next((said for said in self.keymap_said if isinstance(said, str)), None)
        for said in self.keymap_said:
            if isinstance(said, str):
                break
            good.append(said)
        lines = iter_keymap(io.BytesIO(b"".join(self.keymap)))
        read = list(islice(lines, len(good)))
        assert read == good
        if bad is None:
            assert list(lines) == []
            REACH("KEYMAP read")
        else:
            with pytest.raises(Finding, match=r"\[invalid-keymap, ") as caught:
                next(lines)
            assert caught.value.clause == bad
            assert caught.value.offset == sum(map(len, self.keymap[: len(good)]))
            assert list(lines) == [], "for good [READ-10]"
            REACH(bad, "READ-10")
        last: dict[str, bytes] = {}
        for line in reversed(good):
            last.setdefault(line.encoded, line.original)
        # [READ-11] Lines are given out in their order, and what comes last counts.
        assert {line.encoded: line.original for line in read} == last
        REACH(*(["READ-11"] if len(last) < len(good) else []))

    # ---- CHECKSUMS ----

    @rule(path=PATHS, sha256=HASHES)
    def checksum_line(self, path: bytes, sha256: bytes) -> None:
        line = render_checksum_line(path, sha256)
        if set(path) & set(b"\\\n\r"):
            REACH("SUMS-2")
            written = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
            assert line == b"\\" + sha256 + b"  " + written + b"\n"
        else:
            assert line == sha256 + b"  " + path + b"\n"
        self.sums.append(line)
        self.sums_said.append((sha256, path))

    @rule(sha256=HASHES, capital=st.booleans())
    def foreign_checksum_line(self, sha256: bytes, capital: bool) -> None:
        """As `sha256sum --binary` writes it, or somebody with capital letters."""
        REACH("capital digits" if capital else "binary mark")
        self.sums.append((sha256.upper() if capital else sha256) + (b"  x\n" if capital else b" *x\n"))
        self.sums_said.append((sha256, b"x"))

    @rule(line=of_each_clause(BAD_CHECKSUM_LINES))
    def bad_checksum_line(self, line: bytes) -> None:
        self.sums.append(line + b"\n")
        self.sums_said.append(BAD_CHECKSUM_LINES[line])

    @invariant()
    def checksums_are_read(self) -> None:
        for line, said in zip(self.sums, self.sums_said, strict=True):
            if isinstance(said, str):
                with pytest.raises(Fault) as caught:
                    decode_checksum_line(line)
                assert caught.value.clause == said
                REACH(said)
            else:
                assert tuple(decode_checksum_line(line)) == said
                REACH("CHECKSUMS read")

    # ---- MANIFEST.json ----

    @rule(
        cluster_id=TEXTS,
        version=TEXTS,
        index=st.none() | U64,
        last_commit=st.just(0) | U64,
        crc32c=st.none() | st.sampled_from([0, 0xAB, 2**32 - 1]),
        databases=st.lists(st.integers(0, 20), unique=True, max_size=3).map(sorted),
    )
    def write_manifest(
        self,
        cluster_id: str | None,
        version: str | None,
        index: int | None,
        last_commit: int,
        crc32c: int | None,
        databases: list[int],
    ) -> None:
        database = databases[0] if databases else 0
        summary = Summary(Options(database), last_commit, crc32c, index, Counters(), [])
        self.write(summary, Provenance("s.fsm", WALL_TIME, cluster_id, version), databases)
        self.broken.clear()
        REACH("MANIFEST.json written")
        # Written by hand, as MANI-1, MANI-7 and INTO-7 say: what is not known is not there.
        optional = {"cluster_id": cluster_id, "elastickv_version": version, "snapshot_index": index}
        for name, value in {**optional, "last_commit_ts": last_commit}.items():
            assert self.manifest.get(name) == (value or None)
        source = {"fsm_path": "s.fsm"} if crc32c is None else {"fsm_path": "s.fsm", "fsm_crc32c": f"{crc32c:08x}"}
        assert self.manifest["source"] == source
        assert self.manifest["adapters"]["redis"] == ({"databases": databases} if databases else {})
        nothing: dict[str, object] = {"complete": None, "partial_reasons": [], "fsm_path": None}
        reported = self.manifest["outcome"]
        assert (reported["database"], reported["earlier"]) == (
            database,
            [{"database": n, **nothing} for n in databases[1:]],
        )

    @rule(read_ts=st.sampled_from([None, 0, 1, "1", True, 2**64 - 1]), has_source=st.booleans())
    def pin_live(self, read_ts: Any, has_source: bool) -> None:
        """A manifest of phase 1, which this decoder does not write."""
        self.manifest |= {"phase": "phase1-live-pinned", "live": {"read_ts": read_ts}}
        if not has_source:
            self.manifest["source"] = None
        self.broken.pop("phase", None)
        self.broken["live"] = "READ-21" if self.manifest.get("source") else "READ-22"
        if self.broken["live"] == "READ-22" and read_ts in (1, 2**64 - 1) and read_ts is not True:
            del self.broken["live"]
            REACH("phase 1")

    @rule(tail=st.sampled_from(list(TAILS)))
    def write_behind_manifest(self, tail: str) -> None:
        self.tail = tail

    @rule(edit=st.sampled_from(BAD_MEMBERS))
    def break_member(self, edit: tuple[str, Any, str]) -> None:
        member, value, clause = edit
        if member in ("phase", "live") and self.manifest["phase"] == "phase1-live-pinned":
            return
        self.manifest.pop(member, None)
        if value is not None:
            self.manifest[member] = value
        self.broken[member] = clause

    @rule(edit=st.sampled_from(BY_CLAUSE).flatmap(st.sampled_from))
    def break_only_this_member(self, edit: tuple[str, Any, str]) -> None:
        """Of several broken members a reader reports one; each clause has to be the only one now and then."""
        self.mend()
        self.tail = ""
        self.break_member(edit)

    @rule()
    def mend(self) -> None:
        REACH("mended")
        self.manifest = dict(self.sound)
        self.broken.clear()

    @rule(name=st.sampled_from(["new", "outcome", "cluster_id"]), value=st.sampled_from([None, 1, "x", [], {}]))
    def unknown_member(self, name: str, value: Any) -> None:
        self.manifest[name] = value

    @rule(indent=st.sampled_from([None, 1, 8]), in_order=st.booleans())
    def write_manifest_otherwise(self, indent: int | None, in_order: bool) -> None:
        REACH("MANIFEST.json in another form")
        self.form = {"indent": indent, "sort_keys": in_order}

    @invariant()
    def manifest_is_read(self) -> None:
        text = (json.dumps(self.manifest, **self.form) + self.tail).encode()
        broken = [*self.broken.values(), *filter(None, [TAILS[self.tail]])]
        if not broken:
            assert decode_manifest(text) == self.manifest
            REACH("MANIFEST.json read", *(["READ-23"] if "new" in self.manifest else []))
            return
        with pytest.raises(Fault) as caught:
            decode_manifest(text)
        first = min(broken, key=ORDER_OF_MANIFEST.index)
        assert caught.value.clause == first
        version = self.manifest.get("format_version")
        assert (caught.value.name == "unsupported-manifest") == (version == 2 and first == "READ-14")
        REACH(first)


CONFIG = steps(examples=300, count=20)
