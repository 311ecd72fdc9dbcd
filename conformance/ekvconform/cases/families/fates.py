"""Makes golden cases from the fate table of the spec (`spec/companions/fate.toml`), and judges by it.

A *situation* is what the store holds under one user key: a prefixed string or none, a bare string
or none, an HLL or none, records of collections or none, a TTL record or none. Each situation is tried
with each choice of types wanted, with and without consent:

- Those that do not refuse share a snapshot: `fate-<types wanted>-<consent>`.
  The user key says what is there: `string-legacy.row-sound`. Plain situations are there twice, the
  second time under a key whose segment is in the fallback form.
- Those that refuse have a snapshot each, as far as the record that refuses and what decides about
  it differ: `fate-refused-..`.

What is expected comes from the table and the layouts of the spec; imports no decoder.
"""

import itertools
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from ekvconform.cases.data_files import FATE_TABLE, OUTCOMES_TABLE
from ekvconform.cases.golden_cases import COMPLETE, PARTIAL, REFUSED, UNSEALED, Case, Expected, Scene
from ekvconform.cases.snapshots import describe_snapshot, render_bytes, render_hex
from ekvconform.cases.writer import (
    HLL,
    STR,
    TTL,
    encode_segment,
    encoded_entry,
    envelope,
    expiry,
    put,
    render_expiry_line,
    render_keymap_line,
    render_unreadable_line,
)

Line = dict[str, Any]
"""A line of the table."""
STRING_KIND: Final = "string"
BARE_KIND: Final = "bare"
HLL_KIND: Final = "hll"
TTL_KIND: Final = "ttl"
COLLECTION_KIND: Final = "collection"
PREFIXES: Final = {HLL_KIND: HLL, STRING_KIND: STR, BARE_KIND: b"", COLLECTION_KIND: b"", TTL_KIND: TTL}
"""Kind of record, in output order [OUTC-5] = what its storage key has before the user key, where that is all."""
VALUES: Final = ("envelope", "envelope with expiry", "without flags", "cut expiry", "legacy")
ROWS: Final = ("none", "sound", "malformed")
WANTED: Final = {"all": None, "strings": "strings", "hll": "hll", "collections": "sets,lists,zsets"}
"""In a case's id = the option `only`."""
EXPIRY_OF: Final = {
    STRING_KIND: 1_700_000_000_001, HLL_KIND: 1_700_000_000_002, TTL_KIND: 1_700_000_000_003,
    COLLECTION_KIND: 1_700_000_000_004,
}  # fmt: skip
"""In Unix ms; each says where an expiry comes from."""
FALLBACK_START: Final = b"b64."
"""Begins a key whose segment is in the fallback form. [SEGM-7]"""
START: Final = 32
"""Size of the header and of the start of the payload part, in bytes."""
CONDITIONS: Final = (
    "wanted", "body", "ttl_record", "shadowed", "would_decide_about", "user_key", "record", "collection", "salvage",
)  # fmt: skip
"""Members of a line that have to hold."""


class Member(NamedTuple):
    """One record of a collection."""

    prefix: bytes
    """Before the sized user key."""
    suffix: bytes
    """Behind it."""
    body: bytes
    record: str = "other"
    """What the table calls it."""
    is_packed: bool = False
    """Whether the user key has no size in front."""

    def storage_key(self, user_key: bytes) -> bytes:
        """Write the storage key. [TYPE-1]"""
        size = b"" if self.is_packed else struct.pack(">I", len(user_key))
        return self.prefix + size + user_key + self.suffix


class Collection(NamedTuple):
    """The records of collections under one user key."""

    type: str
    members: tuple[Member, ...]
    """In the order of COLL-17."""
    has_expiry: bool = False
    """Whether the meta has the field `expiry`."""
    broken: str | None = None
    """The clause that its first record breaks, if it is unreadable."""
    exists: bool = True


GROUPS: Final = {"set": "sets", "list": "lists", "zset": "zsets"}
"""Type of a collection = its directory, and the name of its counters."""
SET_DOCUMENT: Final = '{{\n  "format_version": 1,\n  "members": [\n    "m"\n  ],\n  "expire_at_ms": {}\n}}'
"""The blob of a set of `m`. [RSET-3]"""
ZSET_DOCUMENT: Final = (
    '{{\n  "format_version": 1,\n  "members": [\n    {{\n      "member": "m",\n      "score": 1\n    }}\n  ],\n'
    '  "expire_at_ms": {}\n}}'
)
"""The blob of a zset of `m`, whose score is 1. [RZSE-5]"""
DOCUMENTS: Final = {"set": SET_DOCUMENT, "zset": ZSET_DOCUMENT}
COLLECTIONS: Final = {
    "set": Collection("set", (Member(b"!st|mem|", b"m", b""),)),
    "set-with-expiry": Collection(
        "set",
        (
            Member(b"!st|meta|", b"", struct.pack(">QQ", 1, EXPIRY_OF[COLLECTION_KIND])),
            Member(b"!st|mem|", b"m", b""),
        ),
        has_expiry=True,
    ),
    "set-twice": Collection(
        "set",
        (
            Member(b"!st|mem|", b"m", b""),
            Member(b"!redis|set|", b"", b"not looked at", "packed beside elements", is_packed=True),
        ),
    ),
    "zset-and-index": Collection(
        "zset",
        (
            Member(b"!zs|mem|", b"m", struct.pack(">d", 1)),
            Member(b"!zs|scr|", struct.pack(">d", 1) + b"m", b"", "unread"),
        ),
    ),
    "list-item": Collection("list", (Member(b"!lst|itm|", bytes(8), b"i", is_packed=True),), exists=False),
    "broken-zset": Collection("zset", (Member(b"!zs|mem|", b"m", bytes(7)),), broken="RZSE-1"),
}
"""Name in a user key = what is there."""


class Situation(NamedTuple):
    """What the store holds under one user key."""

    string: str | None
    """Value of the prefixed string; None if there is none."""
    has_bare: bool
    hll: str | None
    row: str
    collection: str | None = None
    """A name of `COLLECTIONS`; None if there is none."""

    @property
    def name(self) -> str:
        """Say what is there, as a user key that is its own segment."""
        words = [
            f"string-{self.string}" if self.string else "",
            "bare" if self.has_bare else "",
            f"hll-{self.hll}" if self.hll else "",
            self.collection or "",
            f"row-{self.row}" if self.row != "none" else "",
        ]
        return ".".join(filter(None, words)).replace(" ", "-")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of record that are there, in output order. [OUTC-5]"""
        there = {
            HLL_KIND: self.hll is not None, STRING_KIND: self.string is not None, BARE_KIND: self.has_bare,
            COLLECTION_KIND: self.collection is not None, TTL_KIND: self.row != "none",
        }  # fmt: skip
        return tuple(kind for kind in PREFIXES if there[kind])

    def records(self, kind: str, user_key: bytes) -> list[tuple[bytes, bytes]]:
        """Return storage key and body of each record of a kind."""
        if kind == COLLECTION_KIND:
            members = COLLECTIONS[self.collection or ""].members
            return [(member.storage_key(user_key), member.body) for member in members]
        return [(PREFIXES[kind] + user_key, self.body(kind))]

    @property
    def is_plain(self) -> bool:
        """Whether there is one record, or two of which one leaves its expiry to a TTL record."""
        return len(self.kinds) == 1 or (len(self.kinds) == 2 and (self.has_bare or "legacy" in self[::2]))

    def body(self, kind: str) -> bytes:
        """Return the body of one of the records."""
        if kind == TTL_KIND:
            return expiry(EXPIRY_OF[TTL_KIND])[: None if self.row == "sound" else 7]
        if kind == BARE_KIND:
            return b"bare"
        value, version = (self.string, 1) if kind == STRING_KIND else (self.hll, 2)
        whole = envelope(version, kind.encode(), EXPIRY_OF[kind] if value != "envelope" else None)
        sizes = {"without flags": 2, "cut expiry": 6}
        return b"legacy " + kind.encode() if value == "legacy" else whole[: sizes.get(str(value))]

    def payload(self, kind: str) -> bytes:
        """Return the payload of a record that can be read."""
        return self.body(kind) if kind == BARE_KIND or self._value(kind) == "legacy" else kind.encode()

    def _value(self, kind: str) -> str | None:
        return {STRING_KIND: self.string, HLL_KIND: self.hll}.get(kind)

    @property
    def decides(self) -> str:
        """The record that a TTL record of this key would decide about. [RTTL-4]"""
        if self.string not in (None, "legacy"):
            return "string envelope"
        if self.string:
            return "other string"
        if self.hll:
            return "other hll" if self.hll == "legacy" else "hll envelope"
        if self.has_bare:
            return "other string"
        found = COLLECTIONS.get(self.collection or "")
        if found is not None and found.exists:
            return "collection with expiry" if found.has_expiry else "other collection"
        return "none"

    def lines(self, kind: str, choice: "Choice") -> list[Line]:
        """Return the line of the table for each record of a kind. [FATE-1]"""
        if kind == COLLECTION_KIND:
            members = COLLECTIONS[self.collection or ""].members
            return [self._line(kind, choice, member.record) for member in members]
        return [self._line(kind, choice, "other")]

    def _line(self, kind: str, choice: "Choice", record: str) -> Line:
        decides = self.decides
        found = COLLECTIONS.get(self.collection or "")
        is_broken = found is not None and found.broken is not None
        # A malformed TTL record makes a collection unreadable with consent; without, it refuses at its own turn.
        is_row_broken = decides == "other collection" and self.row == "malformed" and choice.consents
        holding = {
            "wanted": "yes" if self._is_wanted(kind, choice) else "no",
            "body": self._value(kind),
            "ttl_record": self.row,
            "shadowed": "yes" if self._is_shadowed(kind) else "no",
            "would_decide_about": decides,
            "user_key": self._user_key(found),
            "record": record,
            "collection": "unreadable" if is_broken or is_row_broken else "readable",
            "salvage": "yes" if choice.consents else "no",
        }
        return next(
            line
            for line in FATE_TABLE[kind]
            if all(name not in line or holding[name] == line[name] for name in CONDITIONS)
        )

    def _is_wanted(self, kind: str, choice: "Choice") -> bool:
        if choice.only is None:
            return True
        found = COLLECTIONS.get(self.collection or "")
        wanted = choice.only.split(",")
        # A row that decides about nothing is of no type that could be wanted or not. [COMP-2]
        about = self.decides if kind == TTL_KIND else kind
        if kind == TTL_KIND and about == "none":
            return True
        if COLLECTION_KIND in about and found is not None:
            return GROUPS[found.type] in wanted
        return ("hll" if HLL_KIND in about else "strings") in wanted

    def _is_shadowed(self, kind: str) -> bool:
        by_string = self.string is not None
        return {HLL_KIND: by_string, BARE_KIND: by_string or self.hll is not None}.get(kind, False)

    def _user_key(self, found: Collection | None) -> str:
        if self.string or self.hll or self.has_bare:
            return "of another type"
        return "own" if found is not None and found.exists else "none"

    @property
    def document(self) -> bytes:
        """The blob of the collection. [COLL-18]"""
        found = COLLECTIONS[self.collection or ""]
        expiry_ms = EXPIRY_OF[TTL_KIND] if self.row == "sound" else None
        if found.has_expiry:
            expiry_ms = EXPIRY_OF[COLLECTION_KIND]
        return DOCUMENTS[found.type].format("null" if expiry_ms is None else expiry_ms).encode()


class Choice(NamedTuple):
    """What the caller chooses."""

    wanted: str
    consents: bool

    @property
    def only(self) -> str | None:
        """The types wanted; None for all."""
        return WANTED[self.wanted]

    @property
    def name(self) -> str:
        """The end of a case's id."""
        consent = "consent" if self.consents else "no-consent"
        return f"{self.wanted}-{consent}"

    @property
    def options(self) -> dict[str, str]:
        """Options of a run."""
        return ({"only": self.only} if self.only else {}) | ({"salvage": ""} if self.consents else {})


SITUATIONS: Final = tuple(
    situation
    for situation in (
        *itertools.starmap(Situation, itertools.product((None, *VALUES), (False, True), (None, *VALUES), ROWS)),
        # Whether a string or an HLL can be read makes no difference to a collection. [TYPE-7]
        *itertools.starmap(
            Situation,
            itertools.product((None, "legacy", "envelope"), (False, True), (None, "legacy"), ROWS, COLLECTIONS),
        ),
    )
    if situation.kinds
)
CHOICES: Final = tuple(itertools.starmap(Choice, itertools.product(WANTED, (False, True))))


def fate_cases() -> list[Case]:
    """Return all cases of the table."""
    return [*map(_shared_case, CHOICES), *_refused_cases()]


def refusing_lines(situation: Situation, choice: Choice) -> list[tuple[str, Line]]:
    """Return kind and line of each record that refuses the snapshot, in output order. [OUTC-5]"""
    lines = ((kind, line) for kind in situation.kinds for line in situation.lines(kind, choice))
    return [(kind, line) for kind, line in lines if "refused" in line]


# ---- what does not refuse ----


class _Shown(NamedTuple):
    """One situation in a shared snapshot."""

    user_key: bytes
    segment: str
    situation: Situation


def _shared_case(choice: Choice) -> Case:
    """Return the case of everything that does not refuse."""
    sound = [situation for situation in SITUATIONS if not refusing_lines(situation, choice)]
    shown = [_Shown(each.name.encode(), each.name, each) for each in sound]
    for each in sound:
        if each.is_plain:
            key = FALLBACK_START + each.name.encode()
            shown.append(_Shown(key, encode_segment(key), each))
    # In canonical order, of keys without the byte FF. [VISI-17]
    shown.sort(key=lambda each: each.user_key + b"\xff")
    described = [
        {"key": render_bytes(storage_key), "ts": 1, "body": render_bytes(body)}
        for each in shown
        for kind in each.situation.kinds
        for storage_key, body in each.situation.records(kind, each.user_key)
    ]
    pieces = describe_snapshot({"entries": described})
    return Case(
        id=f"fate-{choice.name}",
        chapter="fate",
        title=f"The fate table where nothing refuses: {choice.name.replace('-', ' ')}",
        clauses=(*_clauses(shown, choice), "FATE-1"),
        level="must",
        scene=Scene(snapshot=b"".join(piece.data for piece in pieces), options=choice.options),
        allowed=(_expected_of(shown, choice),),
        annotated=render_hex(pieces),
        family="fates",
    )


def _clauses(shown: Sequence[_Shown], choice: Choice) -> list[str]:
    lines = (line for each in shown for kind in each.situation.kinds for line in each.situation.lines(kind, choice))
    return sorted({clause for line in lines for clause in line["clauses"]})


class _Files:
    """The files of a dump of a shared snapshot, and what is counted."""

    def __init__(self, offsets: dict[bytes, int]) -> None:
        self.offsets = offsets
        """Storage key = offset of its body, in bytes."""
        self.blobs: dict[str, bytes] = {}
        self.rows: dict[str, dict[str, list[bytes]]] = {}
        """Sidecar = where an expiry comes from = rows."""
        self.keymap: dict[bytes, None] = {}
        self.unreadable: list[bytes] = []
        groups = ("strings", "hlls", *GROUPS.values(), "collections", "ttls")
        self.counts: dict[str, Counter[str]] = {group: Counter() for group in groups}

    def add_collection(self, shown: _Shown, lines: Sequence[Line], *, is_row_broken: bool) -> None:
        """Add what becomes of the records of a collection."""
        segment, situation = shown.segment, shown.situation
        found = COLLECTIONS[situation.collection or ""]
        for line in lines:
            self.counts[GROUPS[found.type]][line["counter"]] += 1
        blobs = {line["blob"] for line in lines if "blob" in line}
        if "unreadable" in blobs:
            member = found.members[0]
            storage_key = member.storage_key(shown.user_key)
            # The clause that is broken is that of the TTL record, if that decides. [SALV-11]
            broken = "RTTL-1" if is_row_broken else str(found.broken)
            clause = next(broken if line["line"] == "broken" else line["line"] for line in lines if "line" in line)
            self.blobs[f"unreadable/{segment}.{found.type}.bin"] = member.body
            offset = self.offsets[storage_key]
            self.unreadable.append(render_unreadable_line(storage_key, segment, offset, clause, found.type))
        if "own" in blobs:
            self.blobs[f"{GROUPS[found.type]}/{segment}.json"] = situation.document
            self.counts["collections"][found.type] += 1
            if any(line.get("keymap") for line in lines) and shown.user_key.startswith(FALLBACK_START):
                self.keymap[render_keymap_line(segment, shown.user_key)] = None

    def add(self, shown: _Shown, kind: str, line: Line) -> None:
        """Add what becomes of one record, in output order."""
        segment, situation = shown.segment, shown.situation
        self.counts[{HLL_KIND: "hlls", TTL_KIND: "ttls"}.get(kind, "strings")][line["counter"]] += 1
        if "line" in line:
            name = STRING_KIND if kind == BARE_KIND else kind
            self.blobs[f"{line['blob']}/{segment}.{name}.bin"] = situation.body(kind)
            storage_key = PREFIXES[kind] + shown.user_key
            offset = self.offsets[storage_key] + cut_in_body(line["line"])
            self.unreadable.append(render_unreadable_line(storage_key, segment, offset, line["line"], name))
        elif "blob" in line:
            self.blobs[f"{line['blob']}/{segment}.bin"] = situation.payload(kind)
        if "expiry" in line:
            expiry_ms = EXPIRY_OF[kind if line["expiry"] == "envelope" else TTL_KIND]
            row = render_expiry_line(segment, expiry_ms)
            self.rows.setdefault(line["sidecar"], {}).setdefault(line["expiry"], []).append(row)
        if line.get("keymap") and shown.user_key.startswith(FALLBACK_START):
            self.keymap[render_keymap_line(segment, shown.user_key)] = None

    def tree(self) -> dict[bytes, bytes]:
        """Return all files, by path from OUT."""
        found = dict(self.blobs)
        for sidecar, groups in self.rows.items():
            # Rows of envelopes come first, then those of TTL records, legacy and bare together. [RTTL-15]
            by_row = sorted(groups.get("TTL record", []), key=_canonical_key)
            found[sidecar] = b"".join([*groups.get("envelope", []), *by_row])
        for name, lines in (("KEYMAP.jsonl", self.keymap), ("unreadable.jsonl", self.unreadable)):
            if lines:
                found[name] = b"".join(lines)
        return {f"redis/db_0/{path}".encode(): data for path, data in found.items()}


def _expected_of(shown: Sequence[_Shown], choice: Choice) -> Expected:
    """Return what a dump of the shared snapshot holds."""
    files = _Files(_body_offsets(shown))
    for kind in PREFIXES:
        for each in shown:
            if kind in each.situation.kinds:
                lines = each.situation.lines(kind, choice)
                if kind == COLLECTION_KIND:
                    is_row_broken = each.situation.row == "malformed" and each.situation.decides == "other collection"
                    files.add_collection(each, lines, is_row_broken=is_row_broken)
                else:
                    files.add(each, kind, lines[0])
    warnings = {
        "orphan-ttl": files.counts["ttls"]["orphan"],
        "unreadable-value": len(files.unreadable),
    }
    return Expected(
        PARTIAL if warnings["unreadable-value"] else COMPLETE,
        tree=files.tree(),
        warnings={name: count for name, count in warnings.items() if count},
        manifest={
            f"outcome.counters.{group}": {name: counts[name] for name in OUTCOMES_TABLE["counters"][group]}
            for group, counts in files.counts.items()
        },
    )


def _canonical_key(row: bytes) -> bytes:
    """Sort rows into canonical order of their keys, which have no byte FF. [VISI-17]"""
    segment = row.split(b'"')[3]
    return (segment[34:] if segment[32:34] == b"__" else segment) + b"\xff"


def cut_in_body(clause: str) -> int:
    """Return where in a body the fault of a clause is, in bytes."""
    # A field that is not there is cut at the end of the value; an expiry, where it begins. [ENVL-10]
    return {"ENVL-4": 2, "ENVL-5": 3}.get(clause, 0)


def _body_offsets(shown: Sequence[_Shown]) -> dict[bytes, int]:
    """Return storage key = offset of its body in the snapshot, in bytes."""
    bodies = {
        storage_key: body
        for each in shown
        for kind in each.situation.kinds
        for storage_key, body in each.situation.records(kind, each.user_key)
    }
    entries = sorted((put(key, 1, body), key, body) for key, body in bodies.items())
    found, offset = {}, START
    for entry, key, body in entries:
        offset += len(encoded_entry(entry))
        found[key] = offset - len(body)
    return found


# ---- what refuses ----


def _refused_cases() -> Iterator[Case]:
    """Yield a case for each situation whose refusal or what decides about it differs from all before."""
    seen = set()
    for choice in CHOICES:
        if choice.consents:
            continue
        for situation in sorted(SITUATIONS, key=lambda each: len(each.kinds)):
            refusing = refusing_lines(situation, choice)
            if not refusing:
                continue
            what = (choice.wanted, *(FATE_TABLE[kind].index(line) for kind, line in refusing), situation.decides)
            if what not in seen:
                seen.add(what)
                yield _refused_case(situation, choice, *refusing[0])


def _refused_case(situation: Situation, choice: Choice, kind: str, line: Line) -> Case:
    key = situation.name.encode()
    # A malformed row refuses when its own turn comes. [FATE-2]
    refusing = TTL_KIND if line["refused"] == "RTTL-1" else kind
    refused = str(COLLECTIONS[situation.collection or ""].broken) if line["refused"] == "broken" else line["refused"]
    offsets = _body_offsets([_Shown(key, situation.name, situation)])
    storage_key, _ = situation.records(refusing, key)[0]
    offset = offsets[storage_key] + cut_in_body(refused)
    pieces = _pieces(situation, key)
    repaired = situation._replace(
        string=_repaired(situation.string), hll=_repaired(situation.hll),
        row="sound" if situation.row == "malformed" else situation.row,
        collection="set" if situation.collection == "broken-zset" else situation.collection,
    )  # fmt: skip
    scene = Scene(snapshot=b"".join(piece.data for piece in pieces), options=choice.options)
    twin = Scene(snapshot=b"".join(piece.data for piece in _pieces(repaired, key)), options=choice.options)
    return Case(
        id=f"fate-refused-{choice.wanted}-{situation.name.replace('.', '-beside-')}",
        chapter="fate",
        title=f"Refused, types wanted {choice.wanted}: {situation.name.replace('.', ', ').replace('-', ' ')}",
        clauses=tuple(dict.fromkeys((refused, *line["clauses"], "FATE-2"))),
        level="must",
        scene=scene,
        allowed=(Expected(REFUSED, "invalid-value", refused, offset=offset, out=UNSEALED),),
        twin=twin,
        annotated=render_hex(pieces),
        family="fates",
    )


def _repaired(value: str | None) -> str | None:
    return "envelope" if value in ("without flags", "cut expiry") else value


def _pieces(situation: Situation, key: bytes) -> list[Any]:
    entries = [
        {"key": render_bytes(storage_key), "ts": 1, "body": render_bytes(body)}
        for kind in situation.kinds
        for storage_key, body in situation.records(kind, key)
    ]
    return describe_snapshot({"entries": entries})
