"""Explains how a tree differs from the expected one: which rule is broken, in words that many cases share.

The bytes say that `strings/k.bin` should not be there. The snapshot says why: `k` is deleted. So
the same mistake of a program has one name, in whatever case it shows.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ekvconform.cases.contents import (
    BARE,
    DELETED,
    EXPIRED,
    FUTURE,
    HISTORY,
    HLL,
    MAX_MS,
    OPERATIONAL,
    STRING,
    TTL,
    UNKNOWN,
    VISIBLE,
    Content,
    key_of_segment,
)
from ekvconform.judge import collection_explanations as collections
from ekvconform.judge.aspects import EXPIRIES, FILES, KEYMAP, PAYLOADS, UNREADABLE
from ekvconform.judge.differences import Difference, differing_bytes, first_differing_line, shown, shown_line

NO_FILE: Final = "no such file"
BLOB: Final = re.compile(r"redis/db_[0-9]+/(?P<directory>strings|hll)/(?P<segment>[^/]*)\.bin")
COLLECTION: Final = re.compile(
    r"redis/db_[0-9]+/(?P<directory>hashes|lists|sets|zsets|streams)/(?P<segment>[^/]*)\.jsonl?"
)
SIDECAR: Final = re.compile(r"redis/db_[0-9]+/(?P<name>strings_ttl|hll_ttl|KEYMAP|unreadable)\.jsonl")
UNREADABLE_BLOB: Final = re.compile(r"redis/db_[0-9]+/unreadable/[^/]+")
TYPES: Final = {"strings": (STRING, BARE), "hll": (HLL,)}
"""Directory of blobs = the types of records that are shown there."""
CLAUSES_OF_PAYLOADS: Final = {
    "string in an envelope": "ENVL-9", "legacy string": "ENVL-3", "bare string": "RSTR-3",
    "HLL in an envelope": "ENVL-9", "legacy HLL": "ENVL-3",
}  # fmt: skip
CLAUSES_OF_BLOBS: Final = {"strings": "RSTR-6", "hll": "RHLL-2"}
CLAUSES_OF_FATES: Final = {DELETED: "VISI-12", EXPIRED: "VISI-13", FUTURE: "VISI-14", OPERATIONAL: "VISI-9"}
WORDS_OF_FATES: Final = {
    DELETED: "a deleted key", EXPIRED: "an expired key", FUTURE: "a version above the last commit",
    OPERATIONAL: "an operational entry",
}  # fmt: skip
PREFIX_IN_BASE64: Final = "I"
"""How the base64 of a storage key with a prefix begins: with that of `!`."""
CLAUSES_OF_TYPES: Final = {UNKNOWN: "KEYS-8", "internal": "KEYS-4", BARE: "RSTR-4"}


class TreeExplainer:
    """Explains the differences between two trees, by the contents of the snapshot."""

    def __init__(self, expected: Mapping[str, bytes], found: Mapping[str, bytes], contents: Sequence[Content]) -> None:
        self._expected = expected
        self._found = found
        self._contents = contents
        self._keys = {content.user_key for content in contents}

    def differences(self, differing: Sequence[str]) -> Iterator[Difference]:
        """Yield the differences at some paths of both trees."""
        renamed = self._renamed(differing)
        for path in differing:
            if path in renamed.values():
                continue
            if path in renamed:
                words = f"under another name: {_form_of_segment(path)}"
                yield Difference(FILES, path, path, renamed[path], words, "SEGM-1")
            elif match := BLOB.fullmatch(path):
                yield self._of_blob(path, match["directory"], match["segment"])
            elif match := COLLECTION.fullmatch(path):
                yield self._of_collection(path, match["directory"], match["segment"])
            elif match := SIDECAR.fullmatch(path):
                yield from self._of_sidecar(path, match["name"])
            else:
                aspect, clause = (UNREADABLE, "SALV-7") if UNREADABLE_BLOB.fullmatch(path) else (FILES, "")
                yield self._of_other(path, aspect, clause)

    def _renamed(self, differing: Sequence[str]) -> dict[str, str]:
        """Return blobs that are missing under their name and found under one that stands for no key of the snapshot."""
        missing = [path for path in differing if path not in self._found and BLOB.fullmatch(path)]
        extra = [path for path in differing if path not in self._expected and path.startswith("redis/")]
        renamed: dict[str, str] = {}
        for path in missing:
            directory, key = path.rsplit("/", 1)[0], self._key(path)
            for other in extra:
                stands_for = self._key(other) if BLOB.fullmatch(other) else None
                is_free = other not in renamed.values() and other.rsplit("/", 1)[0] == directory
                if is_free and self._found[other] == self._expected[path] and stands_for in (key, None):
                    renamed[path] = other
                    break
        return renamed

    def _key(self, path: str) -> bytes | None:
        """Return the user key that the name of a blob stands for, if the snapshot has it."""
        match = BLOB.fullmatch(path)
        key = key_of_segment(match["segment"], self._keys) if match else None
        return key if key in self._keys else None

    def _of_one_key(self, key: bytes | None, types: Sequence[str]) -> list[Content]:
        return [content for content in self._contents if content.user_key == key and content.type in types]

    def _visible(self, key: bytes | None, types: Sequence[str]) -> Content | None:
        """Return the record that is shown for a key, among some types in their precedence."""
        for type_ in types:
            for content in self._of_one_key(key, (type_,)):
                if content.fate == VISIBLE:
                    return content
        return None

    # ---- blobs ----

    def _of_blob(self, path: str, directory: str, segment: str) -> Difference:
        key = self._key(path)
        record = self._visible(key, TYPES[directory])
        if path not in self._found:
            layout = record.layout if record else "a blob"
            clause = "RSTR-2" if layout == "bare string" else CLAUSES_OF_BLOBS[directory]
            return Difference(FILES, path, shown(self._expected[path]), NO_FILE, f"missing: {layout}", clause)
        if path not in self._expected:
            form, clause = self._why_hidden(segment, directory, key)
            return Difference(FILES, path, NO_FILE, shown(self._found[path]), f"shown: {form}", clause)
        form, clause = self._why_other(self._expected[path], self._found[path], record, key, directory)
        return _of_bytes(PAYLOADS, path, self._expected[path], self._found[path], form, clause)

    def _why_hidden(self, segment: str, directory: str, key: bytes | None) -> tuple[str, str]:
        """Classify a blob that must not exist; return words and the clause that forbids it."""
        own = self._of_one_key(key, TYPES[directory])
        for fate in (DELETED, EXPIRED, FUTURE):
            if any(content.fate == fate for content in own):
                return WORDS_OF_FATES[fate], CLAUSES_OF_FATES[fate]
        if own:
            return f"{_an(own[0].layout)} of a type that is not wanted", "COMP-2"
        name = key_of_segment(segment, self._keys) or b""
        for content in self._contents:
            if content.fate == OPERATIONAL and name and content.user_key.startswith(name):
                return WORDS_OF_FATES[OPERATIONAL], CLAUSES_OF_FATES[OPERATIONAL]
        for content in self._contents:
            if content.user_key == key or (content.user_key and name.endswith(content.user_key)):
                clause = CLAUSES_OF_TYPES.get(content.type, "KEYS-1" if content.type in TYPES else "KEYS-5")
                return f"{_an(content.layout)} in {directory}/", clause
        return f"a key in {directory}/ that the snapshot does not have", ""

    def _why_other(
        self, expected: bytes, found: bytes, record: Content | None, key: bytes | None, directory: str
    ) -> tuple[str, str]:
        """Classify a wrong payload; return words and the broken clause."""
        for fate, words, clause in (
            (HISTORY, "of an older version", "VISI-11"),
            (FUTURE, "of a version above the last commit", "VISI-14"),
        ):
            for content in self._of_one_key(key, TYPES[directory]):
                if content.fate == fate and found in (content.payload, content.body):
                    return words, clause
        if record is None:
            return _extent(expected, found), CLAUSES_OF_BLOBS[directory]
        clause = CLAUSES_OF_PAYLOADS[record.layout]
        if found == record.body:
            return f"the whole value of {_an(record.layout)}", clause
        if record.is_envelope and found == record.body[3:]:
            return f"expiry and payload of {_an(record.layout)}", clause
        shadowed = self._visible(key, (BARE,))
        if record.type == STRING and shadowed and found == shadowed.payload:
            return "that of the bare string that it shadows", "RSTR-4"
        return f"of {_an(record.layout)}, {_extent(expected, found)}", clause

    # ---- collections ----

    def _of_collection(self, path: str, directory: str, segment: str) -> Difference:
        key, type_ = key_of_segment(segment, self._keys), collections.TYPES[directory]
        own = [content for content in self._contents if content.user_key == key]
        expected, found = self._expected.get(path), self._found.get(path)
        if found is None:
            aspect, form, clause = collections.why_missing(type_, own)
            return Difference(aspect, path, shown(expected or b""), NO_FILE, form, clause)
        if expected is None:
            aspect, form, clause = collections.why_shown(type_, own)
            return Difference(aspect, path, NO_FILE, shown(found), form, clause)
        aspect, form, clause = collections.why_other(type_, expected, found, own)
        return _of_bytes(aspect, path, expected, found, form, clause)

    # ---- sidecars ----

    def _of_sidecar(self, path: str, name: str) -> Iterator[Difference]:
        expected, found = self._expected.get(path, b""), self._found.get(path, b"")
        aspect = {"KEYMAP": KEYMAP, "unreadable": UNREADABLE}.get(name, EXPIRIES)
        number, line, other = first_differing_line(expected, found)
        where = f"{path}, line {number}"
        bytes_ = differing_bytes(line, other) if line is not None and other is not None else ()
        describe = {KEYMAP: self._of_keymap, UNREADABLE: self._of_unreadable}.get(aspect, self._of_rows)
        for form, clause in dict.fromkeys(describe(expected, found, name)):
            yield Difference(aspect, where, shown_line(line), shown_line(other), form, clause, bytes_)

    def _of_rows(self, expected: bytes, found: bytes, name: str) -> Iterator[tuple[str, str]]:
        """Yield form and clause of each kind of difference between two TTL sidecars."""
        rows, others = _objects(expected, "key"), _objects(found, "key")
        is_hll = name == "hll_ttl"
        for key, row in rows.items():
            kind, clause = self._of_row(key, row.get("expire_at_ms"), is_hll=is_hll)
            if key not in others:
                yield f"no line: {kind}", clause
            elif (other := others[key].get("expire_at_ms")) != row.get("expire_at_ms"):
                if self._is_of_older_version(key, other):
                    yield "the expiry of an older version", "VISI-11"
                else:
                    yield f"another expiry: {self._whose(key, other, kind)}", clause
        for key in sorted(others.keys() - rows.keys()):
            yield self._why_no_row(key, is_hll=is_hll)
        if rows == others:
            yield _of_lines(expected, found, "lines", "RTTL-13", "RTTL-15", "RTTL-14")

    def _of_row(self, segment: str, expiry_ms: Any, *, is_hll: bool) -> tuple[str, str]:
        """Return the source of an expected row with the kind of its expiry, and the clause that asks for it."""
        types = (HLL,) if is_hll else (STRING, BARE)
        record = self._visible(key_of_segment(segment, self._keys), types)
        layout = record.layout if record else "value"
        is_envelope = record is not None and record.is_envelope
        if is_envelope:
            source, clauses = (
                _an(layout),
                ("ENVL-8", "ENVL-7", "RHLL-3") if is_hll else ("ENVL-8", "ENVL-7", "RSTR-7"),
            )
        else:
            source = f"a TTL record of {_an(layout)}"
            clauses = ("RTTL-3", "RTTL-2", "RTTL-7" if is_hll else "RSTR-5" if layout == "bare string" else "RTTL-6")
        if expiry_ms == 0:
            return f"{source}, expiry 0", clauses[0]
        return (f"{source}, expiry above the maximum", clauses[1]) if expiry_ms == MAX_MS else (source, clauses[2])

    def _is_of_older_version(self, segment: str, expiry_ms: Any) -> bool:
        key = key_of_segment(segment, self._keys)
        found = [each for each in self._contents if each.user_key == key and each.expiry_ms == expiry_ms is not None]
        return bool(found) and all(each.fate == HISTORY for each in found)

    def _whose(self, segment: str, expiry_ms: Any, kind: str) -> str:
        """Name the source of a wrong expiry."""
        key = key_of_segment(segment, self._keys)
        for content in self._contents:
            if content.user_key == key and content.expiry_ms == expiry_ms and expiry_ms is not None:
                return f"that of {_an(content.layout)}, for {kind}"
        return f"for {kind}"

    def _why_no_row(self, segment: str, *, is_hll: bool) -> tuple[str, str]:
        """Return form and clause of a line that must not be there."""
        key = key_of_segment(segment, self._keys)
        row = self._visible(key, (TTL,))
        string, hll = self._visible(key, (STRING, BARE)), self._visible(key, (HLL,))
        here, there = (hll, string) if is_hll else (string, hll)
        if row is None and here is None:
            for content in self._of_one_key(key, (TTL, STRING, HLL, BARE)):
                if content.fate in WORDS_OF_FATES:
                    return f"a line of {WORDS_OF_FATES[content.fate]}", CLAUSES_OF_FATES[content.fate]
            return "a line of a key that the snapshot does not have", "RTTL-13"
        if here is not None and here.is_envelope:
            return f"a line of {_an(here.layout)} without expiry", "RTTL-5"
        if here is not None and row is not None:
            return f"a line that {_an(here.layout)} does not have", "RTTL-8" if there else "RTTL-4"
        if there is not None:
            return "a line in the other sidecar", "RTTL-8"
        return "a line of an orphan", "RTTL-10"

    def _of_keymap(self, expected: bytes, found: bytes, _name: str) -> Iterator[tuple[str, str]]:
        lines, others = _objects(expected, "encoded"), _objects(found, "encoded")
        if not others and lines:
            yield "no KEYMAP.jsonl", "KMAP-1"
            return
        if lines.keys() - others.keys():
            yield "a line is missing", "KMAP-1"
        for segment in sorted(others.keys() - lines.keys()):
            yield f"a line of {_form_of_segment(segment)}", "KMAP-1"
        for segment in sorted(lines.keys() & others.keys()):
            for member in lines[segment]:
                if lines[segment][member] != others[segment].get(member):
                    yield f"another {member}", "KMAP-1"
        if lines == others:
            yield _of_lines(expected, found, "lines", "KMAP-2", "KMAP-3", "KMAP-1")

    def _of_unreadable(self, expected: bytes, found: bytes, _name: str) -> Iterator[tuple[str, str]]:
        lines, others = (
            {(str(each.get("storage_key")), str(each.get("kind"))): each for each in _iter_objects(text)}
            for text in (expected, found)
        )
        for about in sorted(lines.keys() - others.keys()):
            yield _missing_line(about)
        for about in sorted(others.keys() - lines.keys()):
            yield f"a line too many: {about[1]}", "SALV-2"
        for about in sorted(lines.keys() & others.keys()):
            for member in lines[about]:
                if lines[about][member] != others[about].get(member):
                    yield f"another {member}", "SALV-6"
        if lines == others:
            yield _of_lines(expected, found, "lines", "SALV-6", "SALV-8", "SALV-6")

    def _of_other(self, path: str, aspect: str, clause: str) -> Difference:
        expected, found = self._expected.get(path), self._found.get(path)
        if found is None:
            return Difference(aspect, path, shown(expected or b""), NO_FILE, "missing: a file", clause)
        if expected is None:
            return Difference(aspect, path, NO_FILE, shown(found), "a file too many", clause)
        return _of_bytes(aspect, path, expected, found, "other bytes", clause)


def _missing_line(about: tuple[str, str]) -> tuple[str, str]:
    """Return form and clause of a missing line of unreadable.jsonl, by its storage key and kind."""
    storage_key, kind = about
    is_bare = kind == STRING and not storage_key.startswith(PREFIX_IN_BASE64)
    return ("no line of a bare string", "RSTR-2") if is_bare else (f"no line of {_an(kind)}", "SALV-6")


def _of_bytes(aspect: str, path: str, expected: bytes, found: bytes, form: str, clause: str) -> Difference:
    return Difference(aspect, path, shown(expected), shown(found), form, clause, differing_bytes(expected, found))


def _an(noun: str) -> str:
    return f"an {noun}" if noun.lower().startswith(("hll", "internal", "unknown", "undecoded")) else f"a {noun}"


def _extent(expected: bytes, found: bytes) -> str:
    if expected.startswith(found):
        return "cut"
    return "with more behind it" if found.startswith(expected) else "other bytes"


def _form_of_segment(path: str) -> str:
    segment = path.rsplit("/", 1)[-1]
    if re.match("[0-9A-Fa-f]{32}__", segment):
        return "the fallback form"
    return "the binary form" if segment.startswith("b64.") else "the percent form"


def _iter_objects(text: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file of lines; others are left out."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def _objects(text: bytes, member: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a file of lines, by a member; the last one counts."""
    return {str(each.get(member)): each for each in _iter_objects(text)}


def _of_lines(expected: bytes, found: bytes, noun: str, once: str, order: str, text: str) -> tuple[str, str]:
    """Return how two files differ that hold the same objects, and the clause; three clauses to choose from."""
    lines, others = expected.splitlines(keepends=True), found.splitlines(keepends=True)
    if len(others) > len(set(others)):
        return f"repeated {noun}", once
    return (
        (f"{noun} in another order", order) if sorted(lines) == sorted(others) else (f"{noun} written otherwise", text)
    )
