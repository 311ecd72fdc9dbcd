"""Makes golden cases from the table of what may lie at each place before a run (`fixtures/places.toml`)."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.golden_cases import (
    COMPLETE,
    PARTIAL,
    REFUSED,
    BrokenCaseError,
    Case,
    Expected,
    Scene,
    decode_planted,
)
from ekvconform.cases.snapshots import BadDescriptionError, decode_bytes, describe_snapshot, render_hex

PLACES_NAME: Final = "places.toml"
"""The table of kinds of files at each place before a run."""


def load_places(path: Path) -> list[Case]:
    """Read the table of places, and make a case of each place and kind. Raises `BrokenCaseError`."""
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
        return [
            _case_of_place(words, place, kind)
            for place, at in words["places"].items()
            for kind in words["classes"][at["class"]]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, BadDescriptionError) as error:
        raise BrokenCaseError(f"{path}: {type(error).__name__}: {error}") from error


def _case_of_place(words: dict[str, Any], place: str, kind: str) -> Case:
    at = words["places"][place]
    snapshot = words["snapshots"][at["snapshot"]]
    pieces = describe_snapshot({"entries": snapshot["entries"]})
    options = {"into_existing": ""} if snapshot["complete"] else {"into_existing": "", "salvage": ""}
    full = f"out/{at['path']}".rstrip("/")
    names = {"{up}": "../" * full.count("/"), "{name}": full.rsplit("/", 1)[-1]}
    what = dict(words["kinds"][kind])
    for placeholder, text in names.items():
        what |= {name: value.replace(placeholder, text) for name, value in what.items() if isinstance(value, str)}
    scene = Scene(
        snapshot=b"".join(piece.data for piece in pieces),
        options=options,
        planted={full.encode(): decode_planted(what)},
    )
    fate, clause, *out = words["classes"][at["class"]][kind]
    if fate in ("replaced", "used"):
        tree = {each.encode(): decode_bytes(text) for each, text in snapshot["tree"].items()}
        outcome = COMPLETE if snapshot["complete"] else PARTIAL
        expected = Expected(outcome, tree=tree, warnings=snapshot.get("warnings", {}))
    else:
        # Which path of an unwritable directory is reported depends on the decoder.
        path = None if fate == "io-error" else full.encode()
        expected = Expected(REFUSED, fate, clause, path=path, out=out[0])
    return Case(
        id=f"safe-at-{place}-{kind}",
        chapter="safe",
        title=f"{kind.replace('-', ' ').capitalize()} at {full}: {fate}",
        clauses=(clause, "SAFE-5") if clause != "SAFE-5" else (clause,),
        level="must",
        scene=scene,
        allowed=(expected,),
        twin=None if expected.outcome != REFUSED else replace(scene, planted={}),
        annotated=render_hex(pieces),
        family="places",
    )
