"""Compares OUT with what a case expects: the tree, its seal, and MANIFEST.json."""

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.contents import contents_of_scene
from ekvconform.cases.data_files import KEYS_TABLE, OUTCOMES_TABLE
from ekvconform.cases.golden_cases import ABSENT, NULL, PRESENT, Expected, Pieces, Scene
from ekvconform.cases.tolerances import TOLERANCES, members_fit, mode_fits, same_file
from ekvconform.judge.aspects import CHECKSUMS, COUNTERS, FILES, FORM, MANIFEST, MODES, PAYLOADS, SEAL
from ekvconform.judge.differences import Difference, differing_bytes, first_differing_line, shown, shown_line
from ekvconform.judge.tree_explanations import BLOB, NO_FILE, SIDECAR, TreeExplainer
from ekvconform.run.looks import Look, hash_regular, iter_below, open_regular, read_regular, shown_path

MANIFEST_NAME: Final = b"MANIFEST.json"
CHECKSUMS_NAME: Final = b"CHECKSUMS"
SEAL_NAMES: Final = (MANIFEST_NAME, CHECKSUMS_NAME)
BLOCK_SIZE: Final = 1024 * 1024
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o755
MANIFEST_MEMBERS: Final = (
    "format_version", "phase", "elastickv_version", "cluster_id", "snapshot_index", "last_commit_ts", "wall_time_iso",
    "source", "live", "adapters", "exclusions", "checksum_algorithm", "checksum_format", "encoded_filename_charset",
    "key_segment_max_bytes", "s3_meta_suffix", "s3_collision_strategy", "dynamodb_layout", "outcome",
)  # fmt: skip
"""In the order of MANI's table."""
OPEN_MEMBERS: Final = {
    "": MANIFEST_MEMBERS,
    "outcome": ("database", "complete", "partial_reasons", "warnings", "counters", "earlier"),
}
"""Path of an object that may have additional members (TOLE-3) = its members."""
CLOSED_MEMBERS: Final = {
    "source": ("fsm_path", "fsm_crc32c"),
    "adapters": ("dynamodb", "s3", "redis", "sqs"),
    "exclusions": (
        "include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records",
        "rename_s3_collisions",
    ),
    "outcome.partial_reasons.*": ("reason", "about", "count"),
    "outcome.warnings.*": ("name", "count", "about", "detail"),
    "outcome.counters": (
        "entries", "undecoded", "strings", "hlls", "hashes", "lists", "sets", "zsets", "streams", "collections", "ttls",
    ),
    "outcome.counters.undecoded": tuple(KEYS_TABLE["undecoded"]),
    "outcome.earlier.*": ("database", "complete", "partial_reasons", "fsm_path"),
} | {f"outcome.counters.{name}": tuple(members) for name, members in OUTCOMES_TABLE["counters"].items()}  # fmt: skip
"""The same for all other objects, in the order of MANI-7, MANI-11, INTO-7, COMP-5, COMP-6 and COMP-9."""
WALL_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")


def differences_of_tree(expected: Expected, out: Path, before: Look, scene: Scene) -> list[Difference]:
    """Compare OUT, without the seal, with the expected tree: paths, kinds, modes and bytes."""
    found: dict[bytes, bytes] = {}
    differences = []
    statuses = dict(iter_below(out))
    parents = {os.path.dirname(path) for path in statuses}
    for path, status in sorted(statuses.items()):
        mode, place = status.st_mode, shown_path(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = stat.filemode(mode)
            differences.append(Difference(FILES, place, "a file or a directory", kind, "not a regular file"))
            continue
        if stat.S_ISREG(mode) and path in expected.large:
            differences += differences_of_large(place, os.path.join(os.fsencode(out), path), expected.large[path])
        elif stat.S_ISREG(mode) and path not in SEAL_NAMES:
            found[path] = read_regular(os.path.join(os.fsencode(out), path))
        elif stat.S_ISDIR(mode) and path != b"." and path not in parents and place not in before:
            words = "an empty directory"
            differences.append(Difference(MODES, place, "no empty directory", words, words, "TREE-5"))
        if (seen := before.get(place)) and seen.inode == status.st_ino:
            old = scene.planted.get(scene.out + b"/" + path)
            if old is None or old.kind != "file" or old.data == found.get(path):
                # A file from before the run keeps its mode.
                if seen.mode != stat.S_IMODE(mode):
                    was, now = f"{seen.mode:o}", f"{stat.S_IMODE(mode):o}"
                    words = "another mode of a file from before the run"
                    differences.append(Difference(MODES, f"{place}, mode", was, now, words, "INTO-5"))
                continue
        right, clause = (FILE_MODE, "TREE-7") if stat.S_ISREG(mode) else (DIRECTORY_MODE, "TREE-8")
        if not mode_fits(right, found_mode := stat.S_IMODE(mode), expected.strict):
            words = f"{found_mode:o} for {right:o}: {kind_of_file(place, is_directory=stat.S_ISDIR(mode))}"
            differences.append(Difference(MODES, f"{place}, mode", f"{right:o}", f"{found_mode:o}", words, clause))
    for path in (
        path.removeprefix(scene.out + b"/") for path, each in scene.planted.items() if each.kind == "directory"
    ):
        if shown_path(path) in before and path not in statuses:
            words = "a directory from before the run is gone"
            differences.append(Difference(FILES, shown_path(path), "a directory", NO_FILE, words, "INTO-5"))
    for path in sorted(expected.large.keys() - statuses.keys()):
        differences.append(Difference(FILES, shown_path(path), "a large file", NO_FILE, "missing: a large file"))
    differing = [
        path
        for path in sorted(expected.tree.keys() | found.keys())
        if path not in found
        or path not in expected.tree
        or not same_file(path, expected.tree[path], found[path], expected.strict)
    ]
    if differing:
        wanted, there = ({shown_path(path): data for path, data in tree.items()} for tree in (expected.tree, found))
        explainer = TreeExplainer(wanted, there, contents_of_scene(scene))
        differences += explainer.differences([shown_path(path) for path in differing])
    return differences


def kind_of_file(place: str, *, is_directory: bool = False) -> str:
    """Return the kind of a file in a dump, without names of the case."""
    if is_directory:
        return "OUT" if place == "." else "a directory"
    if match := SIDECAR.fullmatch(place):
        return f"{match['name']}.jsonl"
    return place if place.encode() in SEAL_NAMES else "a blob" if BLOB.fullmatch(place) else "another file"


def differences_of_large(place: str, path: bytes, pieces: Pieces) -> Iterator[Difference]:
    """Compare a file that is too large for memory with its expected content."""
    offset = 0
    with open_regular(path) as file:
        for text, times in pieces:
            whole, rest = divmod(times, blocks := max(1, BLOCK_SIZE // max(1, len(text))))
            for block in chain(repeat(text * blocks, whole), [text * rest]):
                if file.read(len(block)) != block:
                    words = f"a difference at offset {offset} or soon after"
                    yield Difference(PAYLOADS, place, "the bytes of the case", words, "of a large file, other bytes")
                    return
                offset += len(block)
        if file.read(1):
            yield Difference(PAYLOADS, place, f"{offset} bytes", "more", "of a large file, with more behind it")


def differences_of_seal(out: Path) -> list[Difference]:
    """Compare CHECKSUMS with the tree, and check that MANIFEST.json exists."""
    top = os.fsencode(out)
    statuses = dict(iter_below(out))
    files = sorted(path for path, status in statuses.items() if stat.S_ISREG(status.st_mode))
    missing = [name.decode() for name in SEAL_NAMES if name not in files]
    differences = [Difference(SEAL, name, "a file", NO_FILE, f"no {name}", "SUMS-5") for name in missing]
    if CHECKSUMS_NAME not in files:
        return differences
    hashes = {path: hash_regular(os.path.join(top, path)).encode() for path in files}
    expected = [checksum_line(path, hashes[path]) for path in files if path != CHECKSUMS_NAME]
    found = read_regular(os.path.join(top, CHECKSUMS_NAME))
    if found == b"".join(expected):
        return differences
    number, line, other = first_differing_line(b"".join(expected), found)
    where = f"CHECKSUMS, line {number}"
    bytes_ = differing_bytes(line, other) if line is not None and other is not None else ()
    for words, clause in explain_checksums(expected, found.splitlines(keepends=True)):
        differences.append(Difference(CHECKSUMS, where, shown_line(line), shown_line(other), words, clause, bytes_))
    return differences


def explain_checksums(expected: Sequence[bytes], found: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the lines of CHECKSUMS, each once, with its clause."""
    if sorted(expected) == sorted(found):
        yield "lines in another order", "SUMS-3"
        return
    if set(expected) == set(found):
        yield "repeated lines", "SUMS-1"
        return
    paths = {_path_in(line): line for line in found}
    forms: dict[tuple[str, str], None] = {}
    for line in expected:
        path = _path_in(line)
        kind = kind_of_file(shown_path(path))
        if path not in paths:
            forms[
                "no line for a path with escapes" if line.startswith(b"\\") else f"no line for {kind}",
                "SUMS-2" if line.startswith(b"\\") else "SUMS-1",
            ] = None
        elif paths[path] != line:
            same = paths[path].rstrip(b"\n").lower() == line.rstrip(b"\n")
            forms["lines written otherwise" if same else f"another hash of {kind}", "SUMS-1"] = None
    if found and {_path_in(line) for line in found} - {_path_in(line) for line in expected}:
        forms["a line of a path that is not there", "SUMS-1"] = None
    yield from forms or {("lines written otherwise", "SUMS-1"): None}


def _path_in(line: bytes) -> bytes:
    return line.rstrip(b"\n").lstrip(b"\\")[66:]


def checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Write a line of CHECKSUMS. [SUMS-1] [SUMS-2]"""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != path else b"") + sha256 + b"  " + escaped + b"\n"


def differences_of_manifest(expected: Expected, out: Path, directory: Path) -> list[Difference]:
    """Compare the members of MANIFEST.json that a case specifies."""
    path = os.path.join(os.fsencode(out), MANIFEST_NAME)
    if not os.path.isfile(path) or os.path.islink(path):
        return []  # reported with the seal
    text = read_regular(path)
    try:
        manifest = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        words = "JSON with unique members" if isinstance(error, ValueError) else "JSON that is not deeply nested"
        broken = Difference(FORM, "MANIFEST.json", words, str(error), f"not {words}", "MANI-1")
        asked = [replace(broken, aspect=MANIFEST, clause="")] if expected.manifest or expected.canonical else []
        return [broken, *asked]
    differences = []
    asked = _without_warnings(manifest, expected.carriers_warnings)
    for name, value in expected.manifest.items():
        wanted = value.replace("{directory}", str(directory)) if isinstance(value, str) else value
        found: Any = asked
        for part in name.split("."):
            found = _item(found, part) if isinstance(found, list) else _member(found, part)
        if wanted == PRESENT and found != ABSENT:
            continue
        wanted = None if wanted == NULL else wanted
        # Compared as JSON, since 1 == True in Python.
        if json.dumps(found, sort_keys=True) != json.dumps(wanted, sort_keys=True):
            aspect = COUNTERS if name.startswith("outcome.counters") else MANIFEST
            words = f"{_without_indexes(name)} {_relation(wanted, found)}"
            place = f"MANIFEST.json, {name}"
            differences.append(Difference(aspect, place, json.dumps(wanted), json.dumps(found), words))
    for warning in _objects_at(manifest, ["outcome", "warnings", "*"]):
        detail = warning.get("detail")
        if not (isinstance(detail, str) and detail.strip()):
            place = f"MANIFEST.json, detail of the warning {warning.get('name')}"
            form = f"no words in the detail of {warning.get('name')}"
            differences.append(Difference(FORM, place, "words", json.dumps(detail), form, "COMP-5"))
    if expected.canonical:
        differences += _differences_of_form(manifest, text, expected)
    return differences


def _without_warnings(manifest: Any, names: Collection[str]) -> Any:
    """Return a manifest without some of its warnings."""
    outcome = _member(manifest, "outcome")
    warnings = _member(outcome, "warnings")
    if not names or not isinstance(warnings, list):
        return manifest
    kept = [each for each in warnings if _member(each, "name") not in names]
    return {**manifest, "outcome": {**outcome, "warnings": kept}}


def _member(found: Any, name: str) -> Any:
    return found.get(name, ABSENT) if isinstance(found, dict) else ABSENT


def _item(found: list[Any], part: str) -> Any:
    """Return an item by its number, or the first one of a name: a warning that is missing hides no other one."""
    if part.isdigit():
        return found[int(part)] if int(part) < len(found) else ABSENT
    return next((each for each in found if _member(each, "name") == part), ABSENT)


def _without_indexes(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _relation(wanted: Any, found: Any) -> str:
    """Return how a member differs, without its value."""
    if found == ABSENT:
        return "is absent"
    if wanted == ABSENT:
        return "is there"
    if type(wanted) is int and type(found) is int:
        return "is too small" if found < wanted else "is too great"
    return "is another"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member occurs twice")
    return found


def _differences_of_form(manifest: Any, text: bytes, expected: Expected) -> Iterable[Difference]:
    """Compare MANIFEST.json with its canonical form. [MANI-1] [MANI-2]"""
    canonical = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    if text != canonical:
        bytes_ = differing_bytes(canonical, text)
        words = "written otherwise"
        yield Difference(FORM, "MANIFEST.json", shown(canonical), shown(text), words, "MANI-1", bytes_)
    for tables, strict in ((OPEN_MEMBERS, expected.strict), (CLOSED_MEMBERS, TOLERANCES)):
        for path, members in tables.items():
            for found in _objects_at(manifest, path.split(".") if path else []):
                if not members_fit(members, found, strict):
                    wanted = ", ".join(each for each in members if each in found)
                    place = f"members of {path or 'the object'}"
                    words = ", ".join(found)
                    yield Difference(FORM, f"MANIFEST.json, {place}", wanted, words, f"other {place}", "MANI-1")
    wall_time = manifest.get("wall_time_iso") if isinstance(manifest, dict) else None
    if not (isinstance(wall_time, str) and WALL_TIME.fullmatch(wall_time)):
        place, words = "MANIFEST.json, wall_time_iso", "RFC 3339 in UTC"
        yield Difference(FORM, place, words, json.dumps(wall_time), f"wall_time_iso is not {words}", "MANI-4")


def _objects_at(found: Any, path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects at a path; `*` is every item of a list."""
    if not path:
        if isinstance(found, dict):
            yield found
    elif path[0] == "*":
        for item in found if isinstance(found, list) else []:
            yield from _objects_at(item, path[1:])
    elif isinstance(found, dict):
        yield from _objects_at(found.get(path[0]), path[1:])
