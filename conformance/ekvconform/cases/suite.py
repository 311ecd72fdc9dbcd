"""Reads and renders the index of the suite, `fixtures/index.toml`: its version, and a hash of each case.

    member      value
    ----------  -----------------------------------------------------------------
    version     of the suite, a number that only increases
    [versions]  version = hash over all its cases; never changed
    [cases]     id = { sha256 of its file, version of its last change }
    [retired]   id = version in which it was removed; never used again

A case that changes without a new version contradicts the hash of that version.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.data_files import FIXTURES
from ekvconform.cases.golden_cases import BrokenCaseError
from ekvconform.cases.loading import case_paths, table_paths

INDEX_NAME: Final = "index.toml"


@dataclass(frozen=True, slots=True)
class Suite:
    """Version and hash of a suite, for reports."""

    version: int
    sha256: str


def hash_cases(directory: Path = FIXTURES) -> dict[str, str]:
    """Return the SHA-256 of the file of each case and of each table of cases, by id. Raises `BrokenCaseError`."""
    paths = [*case_paths(directory), *table_paths(directory)]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def hash_suite(cases: Mapping[str, str]) -> str:
    """Return the hash over all cases."""
    lines = "".join(f"{case_id} {cases[case_id]}\n" for case_id in sorted(cases))
    return hashlib.sha256(lines.encode()).hexdigest()


def load_index(directory: Path = FIXTURES) -> dict[str, Any]:
    """Read the index. Raises `BrokenCaseError`."""
    try:
        return tomllib.loads((directory / INDEX_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenCaseError(f"{directory / INDEX_NAME}: {error}") from error


@cache
def load_suite(directory: Path = FIXTURES) -> Suite:
    """Return the suite's version and hash. Raises `BrokenCaseError` if the index is stale."""
    if faults := faults_of_index(directory):
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise BrokenCaseError(f"{'; '.join(faults[:3])}{more}: `make fixtures` brings the index up to date")
    index = load_index(directory)
    return Suite(index["version"], index["versions"][str(index["version"])])


def faults_of_index(directory: Path = FIXTURES) -> list[str]:
    """List the contradictions between cases and index."""
    index, cases = load_index(directory), hash_cases(directory)
    listed = index["cases"]
    faults = [f"{each}: not in the index" for each in cases if each not in listed]
    faults += [f"{each}: in the index, and gone" for each in listed if each not in cases]
    faults += [
        f"{each}: changed, and the suite's version is not"
        for each, sha256 in cases.items()
        if each in listed and listed[each]["sha256"] != sha256
    ]
    faults += [f"{each}: retired, never to be used again" for each in cases if each in index["retired"]]
    version = index["version"]
    if list(map(int, index["versions"])) != list(range(1, version + 1)):
        faults.append("the versions are not 1 and so on, up to the suite's")
    elif not faults and index["versions"][str(version)] != hash_suite(cases):
        faults.append(f"version {version} had other cases")
    return faults


def render_updated_index(directory: Path = FIXTURES) -> str:
    """Render an index of the present cases: the same text, or that of the next version."""
    text = (directory / INDEX_NAME).read_text(encoding="utf-8") if (directory / INDEX_NAME).is_file() else ""
    index = tomllib.loads(text) or {"version": 0, "versions": {}, "cases": {}, "retired": {}}
    cases = hash_cases(directory)
    sha256 = hash_suite(cases)
    version, listed = index["version"], index["cases"]
    if index["versions"].get(str(version)) == sha256:
        return text
    version += 1
    versions = index["versions"] | {str(version): sha256}
    retired = index["retired"] | {each: version for each in listed if each not in cases}
    lines = [f"version = {version}", "", "[versions]", *(f'{each} = "{versions[each]}"' for each in versions)]
    lines += ["", "[cases]"]
    for each in sorted(cases):
        same = each in listed and listed[each]["sha256"] == cases[each]
        since = listed[each]["version"] if same else version
        lines.append(f'{each} = {{ sha256 = "{cases[each]}", version = {since} }}')
    lines += ["", "[retired]", *(f"{each} = {retired[each]}" for each in sorted(retired))]
    return "\n".join(lines) + "\n"
