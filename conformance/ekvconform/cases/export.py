r"""Renders the suite as one file of JSON lines, one case a line: `ekvconform export`.

For test loops in any language. `case.schema.json` describes a line. Contents of files
are base64; names are written as in fixtures: `\xHH` for a byte that is not printable
ASCII, `\\` for a backslash.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ekvconform.cases.golden_cases import Case, Expected, Planted, Scene
from ekvconform.cases.snapshots import render_bytes

Encode = Callable[[bytes], str]


def encode_base64(data: bytes) -> str:
    """Encode the content of a file."""
    return base64.b64encode(data).decode("ascii")


def iter_lines(cases: Iterable[Case]) -> Iterator[str]:
    """Yield a line for each case."""
    for case in cases:
        yield json.dumps(render_case(case)) + "\n"


def render_case(case: Case, encode: Encode = encode_base64) -> dict[str, Any]:
    """Render a case as JSON values; `encode` makes text of the content of a file."""
    scene, twin, during = case.scene, case.twin, case.scene.during
    return {
        "id": case.id,
        "chapter": case.chapter,
        "title": case.title,
        "clauses": list(case.clauses),
        "level": case.level,
        "family": case.family or None,
        **_scene(scene, encode),
        "during": during and {"moment": during.when.words, "scene": during.scene, "place": during.place},
        "snapshot": None if scene.snapshot is None else encode(scene.snapshot),
        "generated": case.generated,
        "big": case.is_big,
        "limits": case.limits,
        "allowed": [_expected(expected, encode, generated=case.generated is not None) for expected in case.allowed],
        "twin": None
        if twin is None
        else {
            **_scene(twin, encode),
            "snapshot": None if twin.snapshot in (None, scene.snapshot) else encode(twin.snapshot),
        },
    }


def _scene(scene: Scene, encode: Encode) -> dict[str, Any]:
    return {
        "run": {
            "verb": scene.verb,
            "db": scene.database,
            "name": render_bytes(scene.snapshot_name),
            "snapshot_is": scene.snapshot_is,
            "below_out": scene.below_out,
            "out": render_bytes(scene.out),
            "options": scene.options,
            "disk_bytes": scene.disk_bytes,
        },
        "scene": [_planted(path, planted, encode) for path, planted in scene.planted.items()],
    }


def _planted(path: bytes, planted: Planted, encode: Encode) -> dict[str, Any]:
    return {
        "path": render_bytes(path),
        "kind": planted.kind,
        "mode": planted.mode,
        "reader": planted.has_reader,
        "target": render_bytes(planted.target) or None,
        "pieces": [{"content": encode(text), "times": times} for text, times in planted.pieces],
    }


def _expected(expected: Expected, encode: Encode, *, generated: bool) -> dict[str, Any]:
    tree = {} if generated else expected.tree
    return {
        "outcome": expected.outcome,
        "fault": expected.fault or None,
        "clause": expected.clause or None,
        "offset": expected.offset,
        "path": None if expected.path is None else render_bytes(expected.path),
        "out": expected.out,
        "exit_status": expected.exit_status,
        "tree": {render_bytes(path): encode(data) for path, data in tree.items()},
        "warnings": expected.warnings,
        "manifest": expected.manifest,
        "canonical": expected.canonical,
        "findings": expected.findings,
        "strict": sorted(expected.strict),
    }
