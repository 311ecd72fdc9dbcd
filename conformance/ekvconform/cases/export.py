r"""The suite as plain files, for people who want no Python: `ekvconform export`.

    bundle.json           all cases; bundle.schema.json describes it
    snapshots/<id>.fsm    what a program reads
    twins/<id>.fsm        the same with the case's defect repaired, where that is in it
    trees/<id>/..         what OUT has to hold, but for MANIFEST.json and CHECKSUMS
                          (<id>.2 and so on, where several outcomes are allowed)

A tree with a name that some file systems do not take has no folder in `trees`; its
files stand in bundle.json, as all files do. Bytes are written there as in fixtures:
`\xHH` for a byte that is no printable ASCII, `\\` for a backslash.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Case, Expected, Planted, Scene
from ekvconform.cases.snapshots import render_bytes
from ekvconform.cases.suite import Suite

SCHEMA_NAME: Final = "bundle.schema.json"
FORMAT: Final = 1
MAX_PATH_SIZE: Final = 400
"""Bytes of a path in a tree that is written as files."""
UNPORTABLE: Final = frozenset(b'\\:*?"<>|')


def export(cases: Sequence[Case], suite: Suite, folder: Path) -> int:
    """Write the bundle into a new or empty folder; return the number of files. Raises `UsageError` or `OSError`."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: not empty; a bundle goes into a new folder, so that nothing stale stays in it")
    folder.mkdir(parents=True, exist_ok=True)
    files = dict(_files(cases, suite))
    for path, data in files.items():
        place = folder / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    shutil.copyfile(Path(__file__).with_name(SCHEMA_NAME), folder / SCHEMA_NAME)
    return len(files) + 1


def _files(cases: Sequence[Case], suite: Suite) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and content of all files but the schema."""
    rendered = []
    for case in cases:
        name = case.id.encode()
        if case.generated:
            rendered.append(render_case(case))
            continue
        if case.scene.snapshot is not None:
            yield b"snapshots/%b.fsm" % name, case.scene.snapshot
        repaired = case.twin.snapshot if case.twin is not None else None
        if repaired is not None and repaired != case.scene.snapshot:
            yield b"twins/%b.fsm" % name, repaired
        for number, expected in enumerate(case.allowed):
            if is_portable(expected.tree):
                for path, data in expected.tree.items():
                    yield b"trees/%b/%b" % (_tree_name(case, number).encode(), path), data
        rendered.append(render_case(case))
    document = {"format": FORMAT, "suite": suite.version, "suite_sha256": suite.sha256, "cases": rendered}
    yield b"bundle.json", (json.dumps(document, indent=1) + "\n").encode()


def is_portable(tree: Iterable[bytes]) -> bool:
    """Tell whether the paths of a tree can be checked out anywhere: short, printable, not different in case alone."""
    paths = list(tree)
    return (
        all(len(path) <= MAX_PATH_SIZE and path.isascii() and path.decode().isprintable() for path in paths)
        and not any(set(path) & UNPORTABLE for path in paths)
        and len({path.lower() for path in paths}) == len(paths)
    )


def _tree_name(case: Case, number: int) -> str:
    return case.id if number == 0 else f"{case.id}.{number + 1}"


def render_case(case: Case) -> dict[str, Any]:
    """Render what bundle.json says of a case."""
    twin, during = case.twin, case.scene.during
    return {
        "id": case.id,
        "chapter": case.chapter,
        "title": case.title,
        "clauses": list(case.clauses),
        "level": case.level,
        **_scene(case.scene),
        "during": during and {"moment": during.when.words, "scene": during.scene, "place": during.place},
        "snapshot": None if case.scene.snapshot is None or case.generated else f"snapshots/{case.id}.fsm",
        "generated": case.generated,
        "big": case.is_big,
        "limits": case.limits,
        "allowed": [_expected(case, number, expected) for number, expected in enumerate(case.allowed)],
        "twin": None
        if twin is None
        else {
            **_scene(twin),
            "snapshot": None
            if twin.snapshot is None
            else f"{'snapshots' if twin.snapshot == case.scene.snapshot else 'twins'}/{case.id}.fsm",
        },
    }


def _scene(scene: Scene) -> dict[str, Any]:
    return {
        "run": {
            "verb": scene.verb,
            "db": scene.database,
            "name": render_bytes(scene.snapshot_name),
            "snapshot_is": scene.snapshot_is,
            "below_out": scene.below_out,
            "out": render_bytes(scene.out),
            "options": scene.options,
        },
        "scene": [_planted(path, planted) for path, planted in scene.planted.items()],
    }


def _planted(path: bytes, planted: Planted) -> dict[str, Any]:
    return {
        "path": render_bytes(path),
        "kind": planted.kind,
        "mode": planted.mode,
        "reader": planted.has_reader,
        "target": render_bytes(planted.target) or None,
        "pieces": [{"text": render_bytes(text), "times": times} for text, times in planted.pieces],
    }


def _expected(case: Case, number: int, expected: Expected) -> dict[str, Any]:
    return {
        "outcome": expected.outcome,
        "fault": expected.fault or None,
        "clause": expected.clause or None,
        "offset": expected.offset,
        "path": None if expected.path is None else render_bytes(expected.path),
        "out": expected.out,
        "exit_status": expected.exit_status,
        "tree": f"trees/{_tree_name(case, number)}"
        if expected.tree and is_portable(expected.tree) and not case.generated
        else None,
        "files": {}
        if case.generated
        else {render_bytes(path): render_bytes(data) for path, data in expected.tree.items()},
        "warnings": expected.warnings,
        "manifest": expected.manifest,
        "canonical": expected.canonical,
        "findings": expected.findings,
        "strict": sorted(expected.strict),
    }
