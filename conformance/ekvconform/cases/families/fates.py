"""Makes golden cases from the fate table of the spec (`spec/companions/fate.toml`), and judges by it.

A *situation* is what the store holds under one user key: a prefixed string or none, a bare string
or none, an HLL or none, a TTL record or none. Each situation is tried with each choice of types wanted,
with and without consent, and with and without a collection elsewhere in the store:

- Those that do not refuse share a snapshot: `fate-<types wanted>-<consent>[-beside-a-collection]`.
  The user key says what is there: `string-legacy.row-sound`. Plain situations are there twice, the
  second time under a key whose segment is in the fallback form.
- Those that refuse have a snapshot each, as far as the record that refuses and what decides about
  it differ: `fate-refused-..`.

What is expected comes from the table and the layouts of the spec; imports no decoder.
"""

import itertools
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
PREFIXES: Final = {HLL_KIND: HLL, STRING_KIND: STR, BARE_KIND: b"", TTL_KIND: TTL}
"""Kind of record, in output order [OUTC-5] = what its storage key has before the user key."""
VALUES: Final = ("envelope", "envelope with expiry", "without flags", "cut expiry", "legacy")
ROWS: Final = ("none", "sound", "malformed")
WANTED: Final = {"all": None, "strings": "strings", "hll": "hll"}
"""In a case's id = the option `only`."""
COLLECTION: Final = b"!hs|fld|"
"""Begins the storage key of a record of a type without a chapter."""
EXPIRY_OF: Final = {STRING_KIND: 1_700_000_000_001, HLL_KIND: 1_700_000_000_002, TTL_KIND: 1_700_000_000_003}
"""In Unix ms; each says where an expiry comes from."""
FALLBACK_START: Final = b"b64."
"""Begins a key whose segment is in the fallback form. [SEGM-7]"""
START: Final = 32
"""Size of the header and of the start of the payload part, in bytes."""
CONDITIONS: Final = ("wanted", "body", "ttl_record", "same_key", "would_decide_about", "salvage")
"""Members of a line that have to hold."""


class Situation(NamedTuple):
    """What the store holds under one user key."""

    string: str | None
    """Value of the prefixed string; None if there is none."""
    has_bare: bool
    hll: str | None
    row: str

    @property
    def name(self) -> str:
        """Say what is there, as a user key that is its own segment."""
        words = [
            f"string-{self.string}" if self.string else "",
            "bare" if self.has_bare else "",
            f"hll-{self.hll}" if self.hll else "",
            f"row-{self.row}" if self.row != "none" else "",
        ]
        return ".".join(filter(None, words)).replace(" ", "-")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of record that are there, in output order. [OUTC-5]"""
        there = {
            HLL_KIND: self.hll is not None, STRING_KIND: self.string is not None, BARE_KIND: self.has_bare,
            TTL_KIND: self.row != "none",
        }  # fmt: skip
        return tuple(kind for kind in PREFIXES if there[kind])

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
        if self.string or self.has_bare:
            return "other string"
        if self.hll:
            return "other hll" if self.hll == "legacy" else "hll envelope"
        return "none"

    def line(self, kind: str, choice: "Choice") -> Line:
        """Return the line of the table that says what becomes of one of the records. [FATE-1]"""
        decides = self.decides
        about = decides if kind == TTL_KIND else kind
        type_ = "hll" if HLL_KIND in about else "strings"
        # A row that decides about nothing is of no type that could be wanted or not. [COMP-2]
        is_wanted = choice.only in (None, type_) or (kind == TTL_KIND and decides == "none")
        holding = {
            "wanted": "yes" if is_wanted else "no",
            "body": self._value(kind),
            "ttl_record": self.row,
            "same_key": {"prefixed string": self.string is not None, "string": bool(self.string or self.has_bare)},
            "would_decide_about": "none beside collections" if decides == "none" and choice.has_collection else decides,
            "salvage": "yes" if choice.consents else "no",
        }
        return next(line for line in FATE_TABLE[kind] if all(_holds(line, name, holding) for name in CONDITIONS))


def _holds(line: Line, name: str, holding: dict[str, Any]) -> bool:
    value = holding[name]
    return name not in line or (value[line[name]] if isinstance(value, dict) else value == line[name])


class Choice(NamedTuple):
    """What the caller chooses, and whether the store has a collection."""

    wanted: str
    consents: bool
    has_collection: bool

    @property
    def only(self) -> str | None:
        """The types wanted; None for all."""
        return WANTED[self.wanted]

    @property
    def name(self) -> str:
        """The end of a case's id."""
        consent = "consent" if self.consents else "no-consent"
        return f"{self.wanted}-{consent}{'-beside-a-collection' if self.has_collection else ''}"

    @property
    def options(self) -> dict[str, str]:
        """Options of a run."""
        return ({"only": self.only} if self.only else {}) | ({"salvage": ""} if self.consents else {})


SITUATIONS: Final = tuple(
    situation
    for values in itertools.product((None, *VALUES), (False, True), (None, *VALUES), ROWS)
    if (situation := Situation(*values)).kinds
)
CHOICES: Final = tuple(itertools.starmap(Choice, itertools.product(WANTED, (False, True), (False, True))))


def fate_cases() -> list[Case]:
    """Return all cases of the table."""
    return [*map(_shared_case, CHOICES), *_refused_cases()]


def refusing_lines(situation: Situation, choice: Choice) -> list[tuple[str, Line]]:
    """Return kind and line of each record that refuses the snapshot, in output order. [OUTC-5]"""
    lines = ((kind, situation.line(kind, choice)) for kind in situation.kinds)
    return [(kind, line) for kind, line in lines if "refused" in line]


# ---- what does not refuse ----


class _Shown(NamedTuple):
    """One situation in a shared snapshot."""

    user_key: bytes
    segment: str
    situation: Situation


def _shared_case(choice: Choice) -> Case:
    """Return the case of everything that does not refuse."""
    sound = [
        situation
        for situation in SITUATIONS
        # A collection matters only to a TTL record that is alone. [RTTL-9]
        if not refusing_lines(situation, choice) and not (choice.has_collection and len(situation.kinds) > 1)
    ]
    shown = [_Shown(each.name.encode(), each.name, each) for each in sound]
    for each in sound:
        if each.is_plain:
            key = FALLBACK_START + each.name.encode()
            shown.append(_Shown(key, encode_segment(key), each))
    # In canonical order, of keys without the byte FF. [VISI-17]
    shown.sort(key=lambda each: each.user_key + b"\xff")
    described = [
        {"key": render_bytes(PREFIXES[kind] + each.user_key), "ts": 1, "body": render_bytes(each.situation.body(kind))}
        for each in shown
        for kind in each.situation.kinds
    ]
    if choice.has_collection:
        described.append({"key": f"{COLLECTION.decode()}k", "ts": 1})
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
    lines = (each.situation.line(kind, choice) for each in shown for kind in each.situation.kinds)
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
        self.counts: dict[str, Counter[str]] = {"strings": Counter(), "hlls": Counter(), "ttls": Counter()}

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
            # A key that is shown as an HLL and as a string has one line. [KMAP-2]
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
    files = _Files(_body_offsets(shown, choice))
    for kind in PREFIXES:
        for each in shown:
            if kind in each.situation.kinds:
                files.add(each, kind, each.situation.line(kind, choice))
    warnings = {
        "orphan-ttl": files.counts["ttls"]["orphan"],
        "unreadable-value": len(files.unreadable),
        "undecoded-type": int(choice.has_collection and choice.only is None),
    }
    return Expected(
        PARTIAL if warnings["unreadable-value"] or warnings["undecoded-type"] else COMPLETE,
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


def _body_offsets(shown: Sequence[_Shown], choice: Choice) -> dict[bytes, int]:
    """Return storage key = offset of its body in the snapshot, in bytes."""
    bodies = {
        PREFIXES[kind] + each.user_key: each.situation.body(kind) for each in shown for kind in each.situation.kinds
    }
    if choice.has_collection:
        bodies[COLLECTION + b"k"] = b""
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
        if choice.consents or choice.has_collection:
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
    offsets = _body_offsets([_Shown(key, situation.name, situation)], choice)
    offset = offsets[PREFIXES[refusing] + key] + cut_in_body(line["refused"])
    pieces = _pieces(situation, key)
    repaired = situation._replace(
        string=_repaired(situation.string), hll=_repaired(situation.hll),
        row="sound" if situation.row == "malformed" else situation.row,
    )  # fmt: skip
    scene = Scene(snapshot=b"".join(piece.data for piece in pieces), options=choice.options)
    twin = Scene(snapshot=b"".join(piece.data for piece in _pieces(repaired, key)), options=choice.options)
    return Case(
        id=f"fate-refused-{choice.wanted}-{situation.name.replace('.', '-beside-')}",
        chapter="fate",
        title=f"Refused, types wanted {choice.wanted}: {situation.name.replace('.', ', ').replace('-', ' ')}",
        clauses=tuple(dict.fromkeys((line["refused"], *line["clauses"], "FATE-2"))),
        level="must",
        scene=scene,
        allowed=(Expected(REFUSED, "invalid-value", line["refused"], offset=offset, out=UNSEALED),),
        twin=twin,
        annotated=render_hex(pieces),
        family="fates",
    )


def _repaired(value: str | None) -> str | None:
    return "envelope" if value in ("without flags", "cut expiry") else value


def _pieces(situation: Situation, key: bytes) -> list[Any]:
    entries = [
        {"key": render_bytes(PREFIXES[kind] + key), "ts": 1, "body": render_bytes(situation.body(kind))}
        for kind in situation.kinds
    ]
    return describe_snapshot({"entries": entries})
