"""Varies golden cases, so that a program that passes them has decoded them and not looked them up.

What a seed changes, as far as the case does not say that it matters:

    user keys     each letter a-z becomes another one, the same in all keys of the case
    payloads      of strings and HLLs: each letter a-z becomes another one, the same in all
    timestamps    of commits and of entries; their order stays
    expiries      in Unix ms, all by the same delay; those of metas too
    header        the fields that no rule looks at
    indexes       the values of operational entries
    order         of entries, since other keys sort otherwise; in a case that refuses it stays

Of a dump that is verified the payloads change, and the lines of CHECKSUMS with them. Sizes never
change. What is expected follows, by the writer of this package; imports no decoder.
"""

import base64
import hashlib
import json
import random
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from ekvconform.cases.contents import (
    BARE,
    COLLECTIONS,
    ENVELOPES,
    HLL,
    SHAPES,
    STRING,
    TTL,
    VISIBLE,
    Content,
    commit_ts_of,
    contents_of,
    is_operational,
    type_of,
    user_key_place,
)
from ekvconform.cases.golden_cases import ABSENT, DECODE, REFUSED, Case, Expected, Planted, Scene
from ekvconform.cases.parts import Parts, iter_pieces, take_apart
from ekvconform.cases.snapshots import render_hex
from ekvconform.cases.writer import (
    Entry,
    encode_segment,
    encoded_entry,
    footer,
    render_expiry_line,
    render_keymap_line,
    render_unreadable_line,
    version_suffix,
)

KEYS_MATTER: Final = re.compile("KEYS-.*|TYPE-3|VISI-(5|7|8|9|10)")
"""Clauses of cases whose user keys stay."""
TIMES_MATTER: Final = re.compile("FILE-6|KEYS-2|VISI-(1|15|16|17|18|19|20|21)")
"""Clauses of cases whose timestamps stay."""
INDEXES_MATTER: Final = re.compile("FILE-(25|26)|VISI-(7|8|9|10)")
"""Clauses of cases whose operational entries stay."""
OF_KEYS: Final = ("key", "prefix")
"""Options that name user keys, and members of `part`."""
OUTPUT_ORDER: Final = {HLL: 0, STRING: 1, BARE: 2, **dict.fromkeys(COLLECTIONS, 3), TTL: 4}
"""Types whose storage keys hold a user key = their place in output order. [OUTC-5]"""
IN_DOUBT: Final = b"!lst|meta|d|"
"""Begins the storage keys of two kinds of records; keys of a list that begin with `d|` have to stay so. [TYPE-3]"""
LIST_META_SIZES: Final = (24, 32)
EXPIRY_OF_META: Final = {16: 8, 32: 24, 48: 24}
"""Size of the body of a meta = where it has the expiry, in bytes. [COLL-1] [RLIS-1] [RSTM-1]"""
EXPIRY_OF_BLOB: Final = re.compile(rb'(?<="expire_at_ms":)( ?)([0-9]+)(?=\n?\}\n?\Z)')
"""The expiry at the end of the blob of a collection. [COLL-18] [RSTM-9]"""
LETTERS: Final = string.ascii_lowercase.encode()
SAME: Final = bytes(range(256))
"""A table for `bytes.translate` that changes nothing."""
MAX_TIME: Final = 1 << 53
"""Timestamps from here on stay, as does 0: a case has them for their size."""
EXPIRIES: Final = range(10**11, 10**14)
"""Expiries in Unix ms that change; all others stay: a case has them for their size."""
MAX_DELAY: Final = 10**9
HEADER_FIELDS: Final = {b"EKVTHLC1": slice(8, 16), b"EKVTHLC2": slice(10, 26)}
"""Magic of a header = where the fields are that no rule looks at."""
TRIES: Final = 100
BLOB: Final = re.compile(
    r"(redis/db_[0-9]+/(strings|hll|hashes|lists|sets|zsets|streams|unreadable)/)"
    r"(.*?)((?:\.(?:string|hll|hash|list|set|zset|stream|ttl))?\.bin|\.jsonl?)",
    re.DOTALL,
)
CHECKSUMS_NAME: Final = b"CHECKSUMS"
DIGITS: Final = re.compile("[0-9a-f]{8}")
CRC: Final = "source.fsm_crc32c"
LAST_COMMIT: Final = ("last_commit_ts", "source.last_commit_ts")


def vary(case: Case, seed: str) -> Case:
    """Return the case with other keys, payloads, times and indexes, as far as it does not say that they matter."""
    dice = random.Random(f"{seed} {case.id}")  # noqa: S311 - nothing secret
    if case.scene.verb != DECODE:
        varied = _varied_dump(case, dice)
    else:
        parts = take_apart(case.scene.snapshot) if case.scene.snapshot is not None else None
        varied = case if parts is None else _Variation(case, parts, dice).case()
    return replace(varied, seed=seed) if varied.scene != case.scene else case


def varied_cases(cases: Iterable[Case], seed: str) -> list[Case]:
    """Return the cases, varied if there is a seed."""
    return [vary(case, seed) if seed else case for case in cases]


def _letters(dice: random.Random, used: Iterable[int], *, in_order: bool = False) -> bytes:
    """Return a table that gives each letter another one, in the same order or in any."""
    letters = bytes(sorted(set(used) & set(LETTERS)))
    for _ in range(TRIES):
        sample = dice.sample(LETTERS, len(letters))
        others = bytes(sorted(sample) if in_order else sample)
        if not any(map(int.__eq__, letters, others)):
            break
    return bytes.maketrans(letters, others)


# ---- dumps ----


def _varied_dump(case: Case, dice: random.Random) -> Case:
    """Return the case with other payloads in the dump that is verified."""
    table = _letters(dice, LETTERS)
    twin = None if case.twin is None else replace(case.twin, planted=_other_payloads(case.twin, table))
    return replace(case, scene=replace(case.scene, planted=_other_payloads(case.scene, table)), twin=twin)


def _other_payloads(scene: Scene, table: bytes) -> dict[bytes, Planted]:
    """Return what is planted, with other blobs and the lines of CHECKSUMS that go with them."""
    planted, digests = dict(scene.planted), {}
    for path, each in scene.planted.items():
        if each.kind == "file" and path.endswith(b".bin"):
            other = replace(each, pieces=tuple((text.translate(table), times) for text, times in each.pieces))
            planted[path] = other
            digests[_digest(each)] = _digest(other)
    for path, each in scene.planted.items():
        if each.kind == "file" and path.endswith(CHECKSUMS_NAME):
            # A line that does not fit the blob does not fit the other one either.
            text = re.sub(rb"[0-9a-f]{64}", lambda match: digests.get(match[0], match[0]), each.data)
            planted[path] = replace(each, pieces=((text, 1),))
    return planted


def _digest(planted: Planted) -> bytes:
    digest = hashlib.sha256()
    for text, times in planted.pieces:
        for _ in range(times):
            digest.update(text)
    return digest.hexdigest().encode()


# ---- snapshots ----


class _Variation:
    """One case with a snapshot, and how it changes."""

    def __init__(self, case: Case, parts: Parts, dice: random.Random) -> None:
        self._case = case
        self._dice = dice
        self._parts = parts
        twin = take_apart(case.twin.snapshot) if case.twin is not None and case.twin.snapshot is not None else None
        self._twin_parts = twin
        both = (parts,) if twin is None else (parts, twin)
        self._entries = [entry for each in both for entry in each.entries]
        self._refuses = any(expected.outcome == REFUSED for expected in case.allowed)
        self._payloads = _letters(dice, LETTERS)
        self._delay = dice.randrange(1, MAX_DELAY)
        # Where an entry is cut, or out of its place, that is what the case is about.
        is_sound = all(each.is_sound for each in both)
        self._keys = self._new_keys() if is_sound and self._keys_may_change() else SAME
        commits = [int.from_bytes(each.start[8:], "little") for each in both]
        self._times = self._new_times(commits) if is_sound and not self._matter(TIMES_MATTER) else {}
        self._indexes = dice.randbytes(12) if not self._matter(INDEXES_MATTER) and not self._is_named() else None
        # The first fault is the one that is named, so the order has to stay.
        if self._refuses and self._reorders():
            self._times = {}
        if self._refuses and self._reorders():
            self._keys = SAME

    def case(self) -> Case:
        """Return the varied case."""
        case, parts = self._case, self._new_parts(self._parts)
        twin = case.twin
        if twin is not None and self._twin_parts is not None:
            twin = replace(twin, snapshot=self._new_parts(self._twin_parts).joined())
        return replace(
            case,
            scene=replace(case.scene, snapshot=parts.joined(), options=self._new_options(case.scene.options)),
            twin=twin,
            annotated=render_hex(iter_pieces(parts)),
            allowed=tuple(_Varied(expected, self, parts).expected() for expected in case.allowed),
        )

    def _new_options(self, options: dict[str, str]) -> dict[str, str]:
        return {
            name: self.user_key(value.encode()).decode() if name in OF_KEYS else value
            for name, value in options.items()
        }

    # ---- what may change ----

    def _matter(self, clauses: re.Pattern[str]) -> bool:
        return any(map(clauses.fullmatch, self._case.clauses))

    def _reorders(self) -> bool:
        """Predicate: would the entries have to stand in another order?"""
        keys = [self._entry(entry)[0] for entry in self._parts.entries]
        return self._parts.is_sound and sorted(set(keys)) != keys

    def _is_named(self) -> bool:
        """Predicate: does the name of the snapshot give an index?"""
        return self._case.scene.snapshot_name != b"snapshot.fsm"

    def _keys_may_change(self) -> bool:
        scene = self._case.scene
        names_a_path = any(expected.path is not None for expected in self._case.allowed)
        return not (
            self._matter(KEYS_MATTER)
            or scene.has_output
            or scene.during is not None
            or names_a_path
            or any(key.startswith(IN_DOUBT) and len(value) - 9 in LIST_META_SIZES for key, value in self._entries)
        )

    def _new_keys(self) -> bytes:
        """Return a table for user keys that leaves each segment in its form."""
        keys = set(self._user_keys())
        # MANIFEST.json lists segments in their order.
        lists = any(
            name == "outcome.warnings" or name.endswith(".about")
            for expected in self._case.allowed
            for name in expected.manifest
        )
        table = _letters(self._dice, b"".join(keys), in_order=self._refuses or lists)
        kept = all(is_fallback(key) == is_fallback(key.translate(table)) for key in keys)
        return table if kept else SAME

    def _user_keys(self) -> Iterator[bytes]:
        for key, value in self._entries:
            place = user_key_place(key[:-8])
            if place is not None and _has_headers(key, value):
                yield key[place]

    def _new_times(self, commits: Iterable[int]) -> dict[int, int]:
        found = set(commits)
        for key, value in self._entries:
            if _has_headers(key, value):
                found |= {commit_ts_of(key), int.from_bytes(value[1:9], "little")}
        old = sorted(each for each in found if 0 < each < MAX_TIME)
        return dict(zip(old, sorted(self._dice.sample(range(1, MAX_TIME), len(old))), strict=True))

    # ---- how it changes ----

    def _new_parts(self, parts: Parts) -> Parts:
        header = parts.header
        if place := HEADER_FIELDS.get(header[:8]):
            fields = self._dice.randbytes(len(header[place]))
            header = header[: place.start] + fields + header[place.stop :]
        start = parts.start[:8] + self.time(int.from_bytes(parts.start[8:], "little")).to_bytes(8, "little")
        entries = map(self._entry, parts.entries)
        return replace(parts, header=header, start=start, entries=tuple(sorted(entries) if parts.is_sound else entries))

    def _entry(self, entry: Entry) -> Entry:
        key, value = entry
        if is_operational(entry):
            return key, value if self._indexes is None else self._indexes[: len(value)]
        if not _has_headers(key, value):
            return entry
        storage_key = key[:-8]
        suffix = version_suffix(self.time(commit_ts_of(key)))
        expire_at = self.time(int.from_bytes(value[1:9], "little")).to_bytes(8, "little")
        return self.storage_key(storage_key) + suffix, value[:1] + expire_at + self.body(storage_key, value[9:])

    def body(self, storage_key: bytes, body: bytes) -> bytes:
        """Return the new body of a record."""
        type_, size = type_of(storage_key)
        is_meta = SHAPES.get(storage_key[:size], {}).get("kind") == "meta"
        if is_meta and (place := EXPIRY_OF_META.get(len(body))):
            return body[:place] + self._expiry(body[place : place + 8]) + body[place + 8 :]
        if type_ == TTL:
            return self._expiry(body) if len(body) == 8 else body
        if type_ not in (STRING, BARE, HLL):
            return body
        if type_ in ENVELOPES and body.startswith(ENVELOPES[type_]):
            start = 11 if len(body) > 2 and body[2] & 1 else 3
            if len(body) < start:
                return body
            expiry = self._expiry(body[3:11]) if start == 11 else b""
            return body[:3] + expiry + self.payload(body[start:])
        return self.payload(body)

    def _expiry(self, data: bytes) -> bytes:
        return self.expiry_ms(int.from_bytes(data, "big")).to_bytes(8, "big")

    def expiry_ms(self, expiry_ms: int) -> int:
        """Return the new expiry, in Unix ms."""
        return expiry_ms + self._delay if expiry_ms in EXPIRIES else expiry_ms

    def time(self, time: int) -> int:
        """Return the new timestamp."""
        return self._times.get(time, time)

    def payload(self, payload: bytes) -> bytes:
        """Return the new payload. One that begins with FF, as an envelope does, stays."""
        return payload if payload.startswith(b"\xff") else payload.translate(self._payloads)

    def user_key(self, user_key: bytes) -> bytes:
        """Return the new user key."""
        return user_key.translate(self._keys)

    def storage_key(self, storage_key: bytes) -> bytes:
        """Return the new storage key."""
        place = user_key_place(storage_key)
        if place is None:
            return storage_key
        return storage_key[: place.start] + self.user_key(storage_key[place]) + storage_key[place.stop :]

    def bodies(self) -> dict[bytes, bytes]:
        """Return body = the new body, of all records."""
        sound = [(key[:-8], value[9:]) for key, value in self._entries if _has_headers(key, value)]
        return {body: self.body(key, body) for key, body in sound}

    def segments(self) -> dict[str, str]:
        """Return segment = the new segment, of all user keys."""
        return {encode_segment(key): encode_segment(self.user_key(key)) for key in self._user_keys()}

    def planted(self) -> dict[bytes, bytes]:
        """Return the files of OUT before the run, by path from there."""
        scene = self._case.scene
        start = scene.out + b"/"
        return {path.removeprefix(start): each.data for path, each in scene.planted.items() if path.startswith(start)}

    def moved(self, parts: Parts) -> Callable[[int], int]:
        """Return a function that maps an offset in the snapshot to that in the varied one, `parts`."""
        places, place = {}, len(parts.header) + 16
        for entry in parts.entries:
            places[entry[0]] = place
            place += len(encoded_entry(entry))
        starts, start = [], len(self._parts.header) + 16
        for entry in self._parts.entries:
            starts.append((start, places[self._entry(entry)[0]]))
            start += len(encoded_entry(entry))

        def moved(offset: int) -> int:
            # The end of a value belongs to it: a field of which nothing is there is cut there. [ENVL-10]
            old, new = max((each for each in starts if each[0] < offset), default=(0, 0))
            return offset - old + new

        return moved


def _has_headers(key: bytes, value: bytes) -> bool:
    return len(key) >= 8 and len(value) >= 9


def is_fallback(user_key: bytes) -> bool:
    """Return True if the segment of a key is in the fallback form. [SEGM-3]"""
    return encode_segment(user_key)[:34] == f"{hashlib.sha256(user_key).hexdigest()[:32]}__"


def canonical(key: bytes) -> list[int]:
    """Sort keys into canonical order: the end of a key stands above every byte. [VISI-17]"""
    return [*key, 256]


# ---- what is expected ----


class _Varied:
    """One expectation of a varied case."""

    def __init__(self, expected: Expected, variation: _Variation, parts: Parts) -> None:
        self._expected = expected
        self._variation = variation
        self._data = parts.joined()
        self._visible = [each for each in contents_of(self._data) if each.fate == VISIBLE]
        self._segments = variation.segments()
        self._moved = variation.moved(parts)
        self._planted = variation.planted()
        self._bodies = variation.bodies()
        self._tree: dict[bytes, bytes] = {}

    def expected(self) -> Expected:
        """Return the new expectation."""
        # Which types of a key are shown is seen from its blobs.
        for path, data in sorted(self._expected.tree.items(), key=lambda file: file[0].endswith(b".jsonl")):
            is_planted = self._planted.get(path) == data
            self._tree.update([(path, data) if is_planted else self._file(path, data)])
        manifest = {name: self._member(name, value) for name, value in self._expected.manifest.items()}
        return replace(self._expected, tree=self._tree, manifest=manifest)

    def _segment(self, segment: str) -> str:
        return self._segments.get(segment, segment)

    def _member(self, name: str, value: Any) -> Any:
        if name in LAST_COMMIT and isinstance(value, int):
            return self._variation.time(value)
        if name == CRC and DIGITS.fullmatch(str(value)):
            return footer(self._data[:-4]).hex()
        if name.startswith("outcome.part.") and value != ABSENT:
            user_key = self._variation.user_key(base64.urlsafe_b64decode(value + "=="))
            return base64.urlsafe_b64encode(user_key).decode().rstrip("=")
        return [self._segment(each) for each in value] if name.endswith(".about") else value

    def _file(self, path: bytes, data: bytes) -> tuple[bytes, bytes]:
        text = path.decode("utf-8", "surrogateescape")
        if blob := BLOB.fullmatch(text):
            directory, kind, segment, end = blob.groups()
            new_path = f"{directory}{self._segment(segment)}{end}".encode("utf-8", "surrogateescape")
            if kind == "unreadable":
                return new_path, self._bodies.get(data, data)
            if not end.endswith(".bin"):
                return new_path, EXPIRY_OF_BLOB.sub(self._new_expiry, data)
            return new_path, self._variation.payload(data)
        lines = data.splitlines(keepends=True)
        if text.endswith(("strings_ttl.jsonl", "hll_ttl.jsonl")):
            return path, self._rows(lines, HLL if text.endswith("hll_ttl.jsonl") else STRING)
        if text.endswith("/KEYMAP.jsonl"):
            return path, self._keymap(lines)
        return path, self._unreadable(lines) if text.endswith("/unreadable.jsonl") else data

    def _new_expiry(self, match: re.Match[bytes]) -> bytes:
        return match[1] + str(self._variation.expiry_ms(int(match[2]))).encode()

    def _rows(self, lines: list[bytes], type_: str) -> bytes:
        """Return a sidecar: lines of envelopes first, each group in canonical order. [RTTL-15]"""
        envelopes = {encode_segment(each.user_key) for each in self._of(type_) if each.is_envelope}
        keys = {encode_segment(each.user_key): each.user_key for each in self._visible}
        rows = [(self._segment(row["key"]), row["expire_at_ms"]) for row in map(json.loads, lines)]
        rows.sort(key=lambda row: (row[0] not in envelopes, canonical(keys[row[0]])))
        return b"".join(
            render_expiry_line(segment, self._variation.expiry_ms(expiry_ms)) for segment, expiry_ms in rows
        )

    def _keymap(self, lines: list[bytes]) -> bytes:
        """Return KEYMAP: HLLs, prefixed strings, bare strings, collections, each in canonical order. [KMAP-3]"""
        keys = [self._variation.user_key(_base64(json.loads(line)["original"])) for line in lines]
        shown = {path.rpartition(b"/")[2]: path.split(b"/")[-2] for path in self._tree if path.count(b"/") > 2}
        prefixed = {each.user_key for each in self._of(STRING)}

        def place(key: bytes) -> tuple[int, list[int]]:
            directory = shown.get(f"{encode_segment(key)}.bin".encode())
            of_string = STRING if key in prefixed else BARE
            type_ = {b"hll": HLL, b"strings": of_string}.get(directory or b"", next(iter(COLLECTIONS)))
            return OUTPUT_ORDER[type_], canonical(key)

        keys.sort(key=place)
        return b"".join(render_keymap_line(encode_segment(key), key) for key in keys)

    def _unreadable(self, lines: list[bytes]) -> bytes:
        """Return unreadable.jsonl, in output order. [SALV-8]"""
        found = []
        for words in map(json.loads, lines):
            key = self._variation.storage_key(_base64(words["storage_key"]))
            line = render_unreadable_line(
                key, self._segment(words["segment"]), self._moved(words["offset"]), words["clause"], words["kind"]
            )
            place = user_key_place(key) or slice(None)
            found.append((OUTPUT_ORDER[type_of(key)[0]], canonical(key[place]), line))
        return b"".join(line for _, _, line in sorted(found))

    def _of(self, type_: str) -> list[Content]:
        return [each for each in self._visible if each.type == type_]


def _base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
