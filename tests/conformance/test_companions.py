"""The companions of the spec say what the spec says: each is compared with every golden case."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import abnf
import compile_kaitai
import golden
import pytest
from ekv_snapshot import EkvSnapshot
from ekvconform.cases.golden_cases import FINDINGS, Case
from ekvconform.cases.loading import load_cases
from ekvconform.cases.writer import Entry
from ekvformat.outcomes import Fault
from jsonschema import Draft202012Validator
from kaitaistruct import KaitaiStructError
from model import RefusedError, is_operational, read_file
from reference_runs import write_dump

COMPANIONS = Path(__file__).resolve().parents[2] / "spec" / "companions"
CASES = [case for case in load_cases() if not case.is_big and case.scene.snapshot is not None]
DUMPS = golden.IN_MEMORY
LARGEST = 1_000_000
"""Largest snapshot that Kaitai is given; of large ones there is nothing new to see."""


# ---- the snapshot file, in Kaitai Struct ----


def test_what_is_kept_was_made_from_the_source() -> None:
    compiled = compile_kaitai.COMPILED.read_text()
    assert compiled.startswith(compile_kaitai.mark_of(compile_kaitai.SOURCE.read_bytes())), "stale: make kaitai"


def parse(data: bytes) -> Any:
    """Parse a snapshot, with everything in it that is parsed only when it is looked at; None if it cannot be."""
    try:
        found = EkvSnapshot.from_bytes(data)
        for entry in found.entries if hasattr(found, "entries") else []:
            if not entry.is_operational:
                assert entry.storage_key is not None
        return found
    except (KaitaiStructError, EOFError, ValueError):
        return None


def value_of(entry: Any) -> tuple[bytes, ...] | tuple[bytes, int | None] | None:
    """Return what a body says: payload and expiry; None if it cannot be read, () of a type without a chapter here."""
    body = entry.value.body
    kind = entry.type.name
    if kind == "other":
        return ()
    if kind == "ttl":
        return (b"", body.expiry_ms) if body.is_sound else None
    if not body.is_envelope:
        return (body.legacy, None)
    envelope = body.envelope
    return (envelope.payload, envelope.expiry_ms if envelope.has_expiry else None) if envelope.is_readable else None


def model_value(key: bytes, body: bytes) -> tuple[bytes, ...] | tuple[bytes, int | None] | None:
    """The same by hand."""
    kinds = {b"!redis|str|": 1, b"!redis|hll|": 2}
    if key.startswith(b"!redis|ttl|"):
        return (b"", int.from_bytes(body, "big")) if len(body) == 8 else None
    kind = kinds.get(key[:11])
    if kind is None:
        return ()
    if body[:2] != bytes([0xFF, kind]):
        return (body, None)
    if len(body) < 3 or (body[2] & 1 and len(body) < 11):
        return None
    return (body[11:], int.from_bytes(body[3:11], "big")) if body[2] & 1 else (body[3:], None)


def fields_of(entry: Any) -> tuple[Any, ...]:
    """Return every field of a parsed entry."""
    if entry.is_operational:
        return entry.key.whole, entry.operational_value
    flags = entry.value.reserved << 3 | entry.value.encryption_state << 1 | entry.value.tombstone
    suffix = entry.key.version_suffix
    return entry.key.storage_key, suffix, flags, entry.value.expire_at, value_of(entry)


def model_fields(entry: Entry) -> tuple[Any, ...]:
    """The same of an entry that was taken apart by hand."""
    key, value = entry
    if is_operational(key, value):
        return key, value
    expire_at = int.from_bytes(value[1:9], "little")
    return key[:-8], int.from_bytes(key[-8:], "big"), value[0], expire_at, model_value(key[:-8], value[9:])


BEYOND_KAITAI = ("FILE-16", "FILE-18", "FILE-19", "VISI-3", "VISI-4", "VISI-5")
"""Clauses that take more than one entry, a sum, or a judgement of flags."""


def test_kaitai_finds_the_fields_of_every_case() -> None:
    parsed = refused = 0
    for case in CASES:
        data = case.scene.snapshot or b""
        if len(data) > LARGEST:
            continue
        found = parse(data)
        try:
            read = read_file(data)
        except RefusedError as fault:
            if fault.args[1] not in BEYOND_KAITAI:
                assert found is None, case.id
                refused += 1
            continue
        assert found is not None, case.id
        parsed += 1
        assert found.last_commit_ts == read.last_commit, case.id
        entries = found.entries if hasattr(found, "entries") else []
        assert list(map(fields_of, entries)) == list(map(model_fields, read.entries)), case.id
        assert hasattr(found, "footer") == read.has_footer, case.id
        header = data[: read.place - 16]
        assert hasattr(found, "file_header") == bool(header), case.id
        if len(header) > 16:
            assert found.file_header.extension == header[26:], case.id
    assert parsed > 600
    assert refused > 30


# ---- segments and lines, in ABNF ----


class Grammar(abnf.Rule):
    """The rules of lines.abnf."""


Grammar.load_grammar((COMPANIONS / "lines.abnf").read_text().replace("\n", "\r\n"))


def is_(rule: str, text: bytes | str) -> bool:
    """Predicate: does a rule make this text?"""
    try:
        Grammar(rule).parse_all(text if isinstance(text, str) else text.decode("latin-1"))
    except abnf.ParseError:
        return False
    return True


NAMES = {"strings": "blob-name", "hll": "blob-name", "unreadable": "unreadable-name"}
LINES = {
    "strings_ttl.jsonl": "expiry-line", "hll_ttl.jsonl": "expiry-line", "KEYMAP.jsonl": "keymap-line",
    "unreadable.jsonl": "unreadable-line",
}  # fmt: skip
LONGEST = 400
"""Longest line that the grammar is given."""


def texts_of(case: Case) -> set[tuple[str, bytes]]:
    """Return the names and lines of the trees that a case expects, each with its rule."""
    found: set[tuple[str, bytes]] = set()
    for expected in case.allowed:
        for path, content in expected.tree.items():
            if b"out/" + path in case.scene.planted:
                continue  # it may be from before the run
            *_, above, name = [b"", *path.split(b"/")]
            if above.decode() in NAMES:
                found.add((NAMES[above.decode()], name))
            elif rule := LINES.get(name.decode("utf-8", "replace")):
                found |= {(rule, line) for line in content.splitlines(keepends=True)}
    return {(rule, text) for rule, text in found if len(text) <= LONGEST}


def test_the_grammar_makes_every_name_and_line_of_every_case() -> None:
    texts = set().union(*map(texts_of, CASES))
    assert {rule for rule, _ in texts} == {*NAMES.values(), *LINES.values()}
    assert len(texts) > 1000
    assert [text for rule, text in sorted(texts) if not is_(rule, text)] == []


def lines_with(finding: str) -> set[bytes]:
    """Return the lines of CHECKSUMS in the scenes of cases that have this finding, and of no line else."""
    found = set()
    for case in load_cases():
        if any(set(expected.findings) == {finding} for expected in case.allowed if expected.outcome == FINDINGS):
            planted = case.scene.planted.get(b"out/CHECKSUMS")
            if planted is not None and planted.data is not None:
                found |= set(planted.data.splitlines(keepends=True))
    return {line for line in found if len(line) <= LONGEST}


SHA = b"0" * 64
REJECTED = [
    ("segment", "a~"), ("segment", "%"), ("segment", "%4"), ("segment", "a/b"), ("segment", "%2f"),
    ("segment", "b64.Y="), ("read-segment", "a~"), ("read-segment", "%4"), ("read-segment", "a/b"),
    ("read-segment", "b64.Y~"),
    ("fallback-form", "0" * 31 + "__x"), ("fallback-form", "A" * 32 + "__x"), ("blob-name", "a.txt"),
    ("unreadable-name", "a.bin"), ("unreadable-name", "a.none.bin"), ("decimal", "007"), ("decimal", "-1"),
    ("expiry-line", '{"key":"a","expire_at_ms":1}'), ("expiry-line", '{"key":"a", "expire_at_ms":1}\n'),
    ("expiry-line", '{"key":"a","expire_at_ms":"1"}\n'), ("expiry-line", '{"Key":"a","expire_at_ms":1}\n'),
    ("keymap-line", '{"encoded":"a","original":"YQ","kind":"sha-fallback"}\n'),
    ("unreadable-line", '{"segment":"k","storage_key":"a","offset":79,"clause":"OUTC-1","kind":"string"}\n'),
    ("checksum-line", SHA + b"  \n"), ("checksum-line", SHA + b" a\n"), ("checksum-line", SHA + b"  a\\b\n"),
    ("checksum-line", b"\\" + SHA + b"  a\n"), ("checksum-line", SHA.replace(b"0", b"A") + b"  a\n"),
    ("read-checksum-line", SHA[1:] + b"  a\n"), ("read-checksum-line", SHA + b"  a\0b\n"),
    ("read-checksum-line", b"\\" + SHA + b"  a\\x\n"), ("read-checksum-line", SHA + b"  a\nb\n"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), REJECTED, ids=range(len(REJECTED)))
def test_the_grammar_does_not_make(rule: str, text: bytes | str) -> None:
    assert not is_(rule, text)


def test_the_grammar_reads_checksums_as_the_cases_say() -> None:
    malformed = lines_with("malformed-line")
    unusual = lines_with("unusual-line")
    assert len(malformed) > 5
    assert len(unusual) > 5
    assert [line for line in unusual if not is_("read-checksum-line", line)] == []
    # Each of these files has one line that is malformed, beside others that are not.
    written = [line for line in malformed if is_("checksum-line", line)]
    rejected = [line for line in malformed if not is_("read-checksum-line", line)]
    assert len(rejected) > 3
    assert set(written) | set(rejected) == malformed


# ---- JSON Schema ----


def validator(file: str, definition: str) -> Draft202012Validator:
    schema = json.loads((COMPANIONS / file).read_text())
    return Draft202012Validator({**schema, "$ref": f"#/$defs/{definition}"})


def test_the_schema_of_lines_takes_every_line_of_every_case() -> None:
    kinds = {rule: validator("lines.schema.json", rule.replace("-", "_")) for rule in set(LINES.values())}
    for case in CASES:
        for rule, text in texts_of(case):
            if rule in kinds:
                assert kinds[rule].is_valid(json.loads(text)), (case.id, text)
    assert not kinds["expiry-line"].is_valid({"key": "a", "expire_at_ms": 2**63})
    assert not kinds["keymap-line"].is_valid({"encoded": "a", "original": "YQ", "kind": "sha-fallback"})


def test_the_schema_takes_every_blob_of_a_collection_of_every_case() -> None:
    directories = {"hashes": "hash", "lists": "list", "sets": "set", "zsets": "zset"}
    documents = {name: validator("collections.schema.json", type_) for name, type_ in directories.items()}
    element, end = (validator("collections.schema.json", name) for name in ("stream_element", "stream_end"))
    counts = Counter[str]()
    for case in CASES:
        for expected in case.allowed:
            for path, blob in expected.tree.items():
                directory = path.decode("utf-8", "surrogateescape").split("/")[-2:][0]
                if directory in documents:
                    assert documents[directory].is_valid(json.loads(blob)), (case.id, path)
                elif directory == "streams":
                    *elements, last = map(json.loads, blob.splitlines())
                    assert all(map(element.is_valid, elements)), (case.id, path)
                    assert end.is_valid(last), (case.id, path)
                counts[directory] += 1
    assert min(counts[name] for name in (*documents, "streams")) > 10
    for bad in ("{}", '{"format_version":1,"members":[1],"expire_at_ms":null}', '{"format_version":1,"members":[]}'):
        assert not documents["sets"].is_valid(json.loads(bad))
    assert not documents["zsets"].is_valid({"format_version": 1, "members": [{"member": "m"}], "expire_at_ms": None})


BEYOND_SCHEMA = {
    "veri-row-exponent", "veri-too-long-row", "veri-unreadable-row-of-another-key", "veri-row-lone-surrogate",
    "read-keymap-lone-surrogate", "veri-invalid-row-plays-no-part",
}  # fmt: skip
"""Cases with an invalid line that takes more than a schema to find."""


def sidecars() -> list[tuple[Case, bytes, bytes]]:
    """Return the sidecars that verifiers read: case, path and text."""
    found = []
    for case in load_cases():
        for path, planted in case.scene.planted.items():
            if case.scene.verb == "verify" and path.rpartition(b"/")[2].decode("latin-1") in LINES and planted.data:
                found.append((case, path, planted.data))
    return found


def is_line(schema: Draft202012Validator, line: bytes) -> bool:
    """Predicate: does a schema take this line?"""
    try:
        parsed = json.loads(line.decode(), parse_constant=pytest.fail, parse_int=lambda digits: int(digits[:4000]))
    except (ValueError, RecursionError, pytest.fail.Exception):
        return False
    return schema.is_valid(parsed)


def test_the_schema_reads_lines_as_the_cases_say() -> None:
    schemas = {name: validator("lines.schema.json", f"read_{rule.replace('-', '_')}") for name, rule in LINES.items()}
    good = bad = 0
    for case, path, text in sidecars():
        if case.id in BEYOND_SCHEMA or case.chapter == "conv" or len(text) > LARGEST:
            continue
        schema = schemas[path.rpartition(b"/")[2].decode()]
        takes = all(is_line(schema, line) for line in text.splitlines(keepends=True))
        findings = case.expected.findings
        named = {*findings.get("invalid-row", ()), *findings.get("invalid-keymap", ())}
        assert takes == (path.removeprefix(b"out/").decode() not in named), (case.id, path)
        good, bad = good + takes, bad + (not takes)
    assert good > 20
    assert bad > 20


def test_the_schema_takes_what_is_tolerated_in_a_manifest() -> None:
    written = validator("manifest.schema.json", "written")
    manifest = json.loads(
        (COMPANIONS.parent / "format" / "22-manifest.md").read_text().split("mani-example\n")[1].split("```")[0]
    )
    assert written.is_valid(manifest)
    assert written.is_valid({"more": 1, **manifest})  # TOLE-3
    warning = {"name": "of-its-own", "count": 1, "about": [], "detail": ""}
    outcome = {**manifest["outcome"], "more": 1, "warnings": [warning, *manifest["outcome"]["warnings"]]}
    assert written.is_valid({**manifest, "outcome": outcome})  # TOLE-3, TOLE-4
    assert not written.is_valid({**manifest, "outcome": {**outcome, "complete": 0}})
    assert not written.is_valid({**manifest, "outcome": {**outcome, "earlier": None}})


def test_the_schema_takes_the_manifest_of_every_case(tmp_path: Path) -> None:
    written = validator("manifest.schema.json", "written")
    read = validator("manifest.schema.json", "read")
    for number, case in enumerate(DUMPS):
        try:
            write_dump(case.scene.snapshot or b"", tmp_path / str(number), name=case.scene.snapshot_name.decode())
        except (Fault, UnicodeDecodeError):
            continue
        manifest = json.loads((tmp_path / str(number) / "MANIFEST.json").read_text())
        assert list(written.iter_errors(manifest)) == [], case.id
        assert read.is_valid(manifest), case.id
    assert number > 200


BEYOND_PATTERNS = {
    "read-manifest-time-no-such-day", "read-manifest-time-of-year-0", "veri-wrong-databases",
    "read-manifest-lone-surrogate",
}  # fmt: skip
"""Cases of what a pattern cannot say."""


def manifests() -> list[tuple[Case, bytes, bool]]:
    """Return the manifests that verifiers read: case, text, and whether it has a finding."""
    found = []
    for case in load_cases():
        planted = case.scene.planted.get(b"out/MANIFEST.json")
        if case.scene.verb == "verify" and planted is not None and planted.data is not None and not case.is_big:
            bad = {"invalid-manifest", "unsupported-manifest"} & set(case.expected.findings)
            found.append((case, planted.data, bool(bad)))
    return found


def test_the_schema_reads_manifests_as_the_cases_say() -> None:
    read = validator("manifest.schema.json", "read")
    every = [(case, text, bad) for case, text, bad in manifests() if len(text) < LARGEST]
    assert sum(bad for *_, bad in every) > 50
    seen = 0
    for case, text, bad in every:
        try:
            manifest = json.loads(text, parse_constant=pytest.fail, parse_int=lambda digits: int(digits[:4000]))
        except (ValueError, RecursionError, pytest.fail.Exception):
            assert bad, case.id
            continue
        if case.id in BEYOND_PATTERNS or re.search(rb'"format_version": *1(\.0|e0)', text) or case.chapter == "conv":
            continue
        seen += 1
        assert read.is_valid(manifest) != bad, case.id
    assert seen > 100
