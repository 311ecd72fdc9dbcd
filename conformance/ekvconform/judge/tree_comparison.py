"""Compares OUT with what a case expects: the tree, its seal, and MANIFEST.json."""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.golden_cases import ABSENT, NULL, PRESENT, Expected, Pieces, Scene
from ekvconform.cases.tolerances import TOLERANCES, members_fit, mode_fits, same_file
from ekvconform.judge.differences import Difference, difference_of_bytes, difference_of_lines, shown
from ekvconform.run.profiles import KEYS_TABLE, OUTCOMES_TABLE
from ekvconform.run.sandbox import Look, hash_regular, iter_below, open_regular, read_regular, shown_path

MANIFEST_NAME: Final = b"MANIFEST.json"
CHECKSUMS_NAME: Final = b"CHECKSUMS"
SEAL: Final = (MANIFEST_NAME, CHECKSUMS_NAME)
BLOCK_SIZE: Final = 1024 * 1024
NO_FILE: Final = "no such file"
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o755
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
    "outcome.counters": ("entries", "undecoded", "strings", "hlls", "ttls"),
    "outcome.counters.undecoded": tuple(KEYS_TABLE["undecoded"]),
    "outcome.earlier.*": ("database", "complete", "partial_reasons", "fsm_path"),
} | {f"outcome.counters.{name}": tuple(members) for name, members in OUTCOMES_TABLE["counters"].items()}  # fmt: skip
"""The same for all other objects, in the order of MANI-6, MANI-9, MANI-24, OUTC-11, OUTC-12 and OUTC-16."""
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
            differences.append(Difference(place, "a file or a directory", stat.filemode(mode)))
            continue
        if stat.S_ISREG(mode) and path in expected.large:
            differences += differences_of_large(place, os.path.join(os.fsencode(out), path), expected.large[path])
        elif stat.S_ISREG(mode) and path not in SEAL:
            found[path] = read_regular(os.path.join(os.fsencode(out), path))
        elif stat.S_ISDIR(mode) and path != b"." and path not in parents:
            differences.append(Difference(place, "no empty directory", "an empty directory", clause="TREE-3"))
        if (seen := before.get(place)) and seen.inode == status.st_ino:
            old = scene.planted.get(scene.out + b"/" + path)
            if old is None or old.kind != "file" or old.data == found.get(path):
                # A file from before the run keeps its mode.
                if seen.mode != stat.S_IMODE(mode):
                    differences.append(Difference(f"{place}, mode", f"{seen.mode:o}", f"{stat.S_IMODE(mode):o}"))
                continue
        right, clause = (FILE_MODE, "TREE-5") if stat.S_ISREG(mode) else (FOLDER_MODE, "TREE-6")
        if not mode_fits(right, stat.S_IMODE(mode), expected.strict):
            differences.append(Difference("modes", f"{right:o}", f"{stat.S_IMODE(mode):o}, {place}", clause=clause))
    missing = (shown_path(path) for path in sorted(expected.large.keys() - statuses.keys()))
    differences += [Difference(place, "a large file", NO_FILE) for place in missing]
    for path in sorted(expected.tree.keys() | found.keys()):
        place = shown_path(path)
        if path not in found:
            differences.append(Difference(place, shown(expected.tree[path]), NO_FILE))
        elif path not in expected.tree:
            differences.append(Difference(place, NO_FILE, shown(found[path])))
        elif not same_file(path, expected.tree[path], found[path], expected.strict):
            compare = difference_of_lines if place.endswith(".jsonl") else difference_of_bytes
            differences.append(compare(place, expected.tree[path], found[path]))
    return differences


def differences_of_large(place: str, path: bytes, pieces: Pieces) -> Iterator[Difference]:
    """Compare a file that is too large for memory with its expected content."""
    offset = 0
    with open_regular(path) as file:
        for text, times in pieces:
            whole, rest = divmod(times, blocks := max(1, BLOCK_SIZE // max(1, len(text))))
            for block in chain(repeat(text * blocks, whole), [text * rest]):
                if file.read(len(block)) != block:
                    yield Difference(place, "the bytes of the case", f"a difference at offset {offset} or soon after")
                    return
                offset += len(block)
        if file.read(1):
            yield Difference(place, f"{offset} bytes", "more")


def differences_of_seal(out: Path) -> list[Difference]:
    """Compare CHECKSUMS with the tree, and check that MANIFEST.json exists."""
    top = os.fsencode(out)
    statuses = dict(iter_below(out))
    files = sorted(path for path, status in statuses.items() if stat.S_ISREG(status.st_mode))
    missing = [name for name in SEAL if name not in files]
    if missing:
        return [Difference(name.decode(), "a file", NO_FILE, clause="SUMS-5") for name in missing]
    hashes = {path: hash_regular(os.path.join(top, path)).encode() for path in files}
    expected = [checksum_line(path, hashes[path]) for path in files if path != CHECKSUMS_NAME]
    found = read_regular(os.path.join(top, CHECKSUMS_NAME))
    lines = found.splitlines(keepends=True)
    if lines == expected:
        return []
    if sorted(lines) == sorted(expected):
        return [Difference("CHECKSUMS", "lines in bytewise order of their paths", "another order", clause="SUMS-3")]
    return [replace(difference_of_lines("CHECKSUMS", b"".join(expected), found), clause="SUMS-1")]


def checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Write a line of CHECKSUMS. [SUMS-1] [SUMS-2]"""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != path else b"") + sha256 + b"  " + escaped + b"\n"


def differences_of_manifest(expected: Expected, out: Path, folder: Path) -> list[Difference]:
    """Compare the members of MANIFEST.json that a case specifies."""
    path = os.path.join(os.fsencode(out), MANIFEST_NAME)
    if not os.path.isfile(path) or os.path.islink(path):
        return []  # reported with the seal
    text = read_regular(path)
    try:
        manifest = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        words = "JSON with unique members" if isinstance(error, ValueError) else "JSON that is not deeply nested"
        return [Difference("MANIFEST.json", words, str(error), clause="MANI-1")]
    differences = []
    for name, value in expected.manifest.items():
        wanted = value.replace("{folder}", str(folder)) if isinstance(value, str) else value
        found: Any = manifest
        for part in name.split("."):
            if isinstance(found, list):
                found = found[int(part)] if part.isdigit() and int(part) < len(found) else ABSENT
            else:
                found = found.get(part, ABSENT) if isinstance(found, dict) else ABSENT
        if wanted == PRESENT and found != ABSENT:
            continue
        wanted = None if wanted == NULL else wanted
        # Compared as JSON, since 1 == True in Python.
        if json.dumps(found, sort_keys=True) != json.dumps(wanted, sort_keys=True):
            differences.append(Difference(f"MANIFEST.json, {name}", json.dumps(wanted), json.dumps(found)))
    for warning in _objects_at(manifest, ["outcome", "warnings", "*"]):
        # A missing member is reported with the form.
        if "detail" in warning and not (isinstance(words := warning["detail"], str) and words.strip()):
            place = f"MANIFEST.json, detail of the warning {warning.get('name')}"
            differences.append(Difference(place, "words", json.dumps(words), clause="OUTC-11"))
    if expected.canonical:
        differences += _differences_of_form(manifest, text, expected)
    return differences


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member occurs twice")
    return found


def _differences_of_form(manifest: Any, text: bytes, expected: Expected) -> Iterable[Difference]:
    """Compare MANIFEST.json with its canonical form. [MANI-1] [MANI-19]"""
    canonical = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    if text != canonical:
        yield difference_of_bytes("MANIFEST.json", canonical, text)
    for tables, strict in ((OPEN_MEMBERS, expected.strict), (CLOSED_MEMBERS, TOLERANCES)):
        for path, members in tables.items():
            for found in _objects_at(manifest, path.split(".") if path else []):
                if not members_fit(members, found, strict):
                    wanted = ", ".join(each for each in members if each in found)
                    yield Difference(f"MANIFEST.json, members of {path or 'the object'}", wanted, ", ".join(found))
    wall_time = manifest.get("wall_time_iso") if isinstance(manifest, dict) else None
    if not (isinstance(wall_time, str) and WALL_TIME.fullmatch(wall_time)):
        yield Difference("MANIFEST.json, wall_time_iso", "RFC 3339 in UTC", json.dumps(wall_time))


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
