"""The cases as JSON lines, and the loop that needs no Python."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
from command_runs import jq_beside
from ekvconform import cli
from ekvconform.cases.loading import load_cases
from ekvconform.cases.snapshots import decode_bytes
from patience import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
EXPORT = ROOT / "fixtures" / "cases.jsonl"
SCHEMA = json.loads((ROOT / "conformance" / "ekvconform" / "cases" / "case.schema.json").read_text())
LINES = EXPORT.read_text().splitlines(keepends=True)
CASES = {case.id: case for case in load_cases()}


def content(pieces: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(piece["content"]) * piece["times"] for piece in pieces)


def test_the_export_is_not_stale(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    assert cli.main(["export", str(path)]) == 0
    assert path.read_bytes() == EXPORT.read_bytes(), "run `make fixtures`"
    assert cli.main(["export", str(tmp_path)]) == 2


def test_the_export_is_small_enough_to_be_kept() -> None:
    assert EXPORT.stat().st_size < 6_000_000


def test_every_line_of_the_export_holds_against_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for line in LINES:
        validator.validate(json.loads(line))


def test_everything_of_a_case_is_in_the_export() -> None:
    exported = [json.loads(line) for line in LINES]
    assert [each["id"] for each in exported] == list(CASES)
    for each in exported:
        case = CASES[each["id"]]
        assert each["generated"] == case.generated
        if case.generated:
            assert each["snapshot"] is None
            continue
        for scene, reported in ((case.scene, each), (case.twin, each["twin"])):
            if scene is None:
                assert reported is None
                continue
            # A repaired twin without a snapshot of its own has that of the case.
            snapshot = each["snapshot"] if reported["snapshot"] is None else reported["snapshot"]
            assert scene.snapshot == (None if snapshot is None else base64.b64decode(snapshot))
            assert {decode_bytes(what["path"]): content(what["pieces"]) for what in reported["scene"]} == {
                path: planted.data for path, planted in scene.planted.items()
            }
        for expected, reported in zip(case.allowed, each["allowed"], strict=True):
            found = {decode_bytes(path): base64.b64decode(text) for path, text in reported["tree"].items()}
            assert found == expected.tree


# ---- the loop of the README ----


def loop(tmp_path: Path, *command: str, every: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the loop on every first of so many cases."""
    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(LINES[::every]))
    readme = (ROOT / "fixtures" / "README.md").read_text()
    (script,) = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert script.count("\n") <= 40, "the README says so"
    (tmp_path / "loop.sh").write_text(script)
    environment = {"PATH": f"{jq_beside(tmp_path)}:/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    return subprocess.run(
        ["sh", str(tmp_path / "loop.sh"), str(cases), *command],
        env=environment, capture_output=True, text=True, check=False, timeout=HANG_SECONDS,
    )  # fmt: skip


def test_the_loop_of_the_readme_passes_the_reference(tmp_path: Path) -> None:
    decoder = tmp_path / "decoder"
    decoder.write_text(f'#!/bin/sh\nexec {sys.executable} -m ekvdump decode --no-sync --db="$3" "$1" "$2"\n')
    decoder.chmod(0o755)
    # That the export says what the cases say is seen above; here, that the loop takes what it says.
    reported = loop(tmp_path, str(decoder), every=4)
    assert reported.returncode == 0, reported.stdout
    match = re.fullmatch(r"([0-9]+) passed, 0 failed, ([0-9]+) not tried\n", reported.stdout)
    assert match
    assert int(match[1]) > 40
    assert int(match[1]) + int(match[2]) == len(LINES[::4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.jsonl", "decoder", "jq", "loop.sh"]


def test_the_loop_of_the_readme_catches_a_decoder_that_does_nothing(tmp_path: Path) -> None:
    reported = loop(tmp_path, "true")
    assert reported.returncode == 1
    assert reported.stdout.splitlines()[-1].startswith("0 passed, ")
    assert "rstr-envelope [ENVL-1]: " in reported.stdout
