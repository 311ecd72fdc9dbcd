"""Saves what a state machine found as a golden case, which only needs a better name."""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import model
from ekvexplain.clauses import load_clauses
from ekvformat.decode import Options
from writer import snapshot

DIRECTORY = Path(__file__).resolve().parents[2] / "build" / "failures"


def refused(fault: str, clause: str, out: str, offset: int | None = None) -> dict[str, Any]:
    """What a case says of a refusal."""
    at = {} if offset is None else {"offset": offset}
    return {"outcome": "refused", "fault": fault, "clause": clause, "out": out, **at}


def refused_for(clause: str) -> dict[str, Any]:
    """What a case says of a refusal for a clause that has one fault, before anything was written."""
    (fault,) = load_clauses()[clause].faults
    return refused(fault, clause, "untouched")


def written(complete: bool, files: Mapping[str, bytes], warnings: Mapping[str, int]) -> dict[str, Any]:
    """What a case says of a dump."""
    outcome = {"outcome": "complete" if complete else "partial"}
    return {**outcome, "warnings": dict(warnings), "tree": {path: escaped(data) for path, data in files.items()}}


def expected_of(expected: model.Expected, *, has_footer: bool) -> dict[str, Any]:
    """What a case says of what the model expects."""
    if expected.refusal is not None:
        fault, clause, _, offset = expected.refusal
        return refused(fault, clause, "unsealed", offset)
    warnings = Counter({"no-footer": 0 if has_footer else 1})
    for name, count, _ in expected.warnings:
        warnings[name] += count
    return written(not expected.reasons, expected.files, +warnings)


def save_case(
    case_id: str,
    data: bytes,
    options: Options,
    expect: Mapping[str, Any],
    scene: Mapping[str, Any] | None = None,
    *,
    into_existing: bool = False,
) -> Path:
    """Write a case. Hypothesis shows the smallest one last, so that is what stays."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    chapter = case_id[:4].upper()
    lines = [f"id = '{case_id}'", "title = 'Found by a state machine'", f"clauses = ['{chapter}-1']", 'level = "must"']
    lines += ["snapshot = '''", *(data[at : at + 16].hex(" ").upper() for at in range(0, len(data), 16)), "'''"]
    words = options_of(options, into_existing=into_existing)
    lines += [
        "",
        "[run]",
        f"db = {options.database}",
        f"options = {toml(words)}",
        "",
        "[scene]",
    ]
    lines += [f"{toml(path)} = {toml(what)}" for path, what in (scene or {}).items()]
    lines += ["", "[expect]", *(f"{name} = {toml(value)}" for name, value in expect.items())]
    if expect["outcome"] == "refused":
        # What is refused has a twin that is not.
        lines += ["", "[twin]", "why = 'nothing is there'"]
        if scene:
            lines += ["[twin.scene]", *(f"{toml(path)} = {{ nothing = true }}" for path in scene)]
        else:
            lines += [f"snapshot = '{snapshot([]).hex(' ')}'"]
    path = DIRECTORY / f"{case_id}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def options_of(options: Options, *, into_existing: bool) -> dict[str, Any]:
    flags = {"salvage": options.salvage, "into_existing": into_existing}
    only = {} if options.only is None else {"only": ",".join(sorted(options.only))}
    return {**{name: True for name, value in flags.items() if value}, **only}


def toml(value: Any) -> str:
    """Write a value in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(name)} = {toml(each)}' for name, each in value.items())} }}"
    if isinstance(value, Collection) and not isinstance(value, str):
        return f"[{', '.join(toml(each) for each in value)}]"
    return json.dumps(value)


def escaped(data: bytes) -> str:
    """Write bytes as cases do."""
    return "".join(f"\\x{byte:02X}" for byte in data)


def scene_of(out: Path) -> dict[str, Any]:
    """What a case says of what lies in the output directory, which is named `out`."""
    found: dict[str, Any] = {}
    for base, directories, names in os.walk(out):
        for name in sorted((*names, *directories)):
            path = Path(base) / name
            key = f"out/{path.relative_to(out)}"
            if path.is_symlink():
                found[key] = {"symlink": os.readlink(path)}
            elif path.is_fifo():
                found[key] = {"fifo": True}
            elif path.is_socket():
                found[key] = {"socket": True}
            elif path.is_file() and path.stat().st_nlink > 1:
                found[key] = {"hard_link": "../canary/file"}
            elif path.is_file():
                found[key] = {"file": escaped(path.read_bytes())}
            elif not any(path.iterdir()):
                found[key] = {"directory": True}
    return found
