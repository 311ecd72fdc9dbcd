"""The cases as plain files, and the loop that needs no Python."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ekvconform import cli
from ekvconform.cases.export import is_portable
from ekvconform.cases.golden_cases import load_cases
from ekvconform.cases.snapshots import decode_bytes
from harness import jq_beside

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "fixtures" / "bundle"
DOCUMENT = json.loads((BUNDLE / "bundle.json").read_text())
CASES = {case.id: case for case in load_cases()}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content(pieces: list[dict[str, Any]]) -> bytes:
    return b"".join(decode_bytes(piece["text"]) * piece["times"] for piece in pieces)


def test_the_bundle_is_not_stale(tmp_path: Path) -> None:
    assert cli.main(["export", str(tmp_path / "bundle")]) == 0
    assert files_below(tmp_path / "bundle") == files_below(BUNDLE), "run `make fixtures`"


def test_a_bundle_goes_into_a_new_folder_only(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert cli.main(["export", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_bundle_holds_against_its_schema() -> None:
    schema = json.loads((BUNDLE / "bundle.schema.json").read_text())
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(DOCUMENT)) == []


def test_everything_of_a_case_is_in_the_bundle() -> None:
    assert [case["id"] for case in DOCUMENT["cases"]] == list(CASES)
    for each in DOCUMENT["cases"]:
        case = CASES[each["id"]]
        assert each["generated"] == case.generated
        if case.generated:
            continue
        for scene, told in ((case.scene, each), (case.twin, each["twin"])):
            if scene is None:
                assert told is None
                continue
            if scene.snapshot is not None:
                assert (BUNDLE / told["snapshot"]).read_bytes() == scene.snapshot
            assert {
                decode_bytes(what["path"]): b"".join(
                    decode_bytes(piece["text"]) * piece["times"] for piece in what["pieces"]
                )
                for what in told["scene"]
            } == {path: planted.data for path, planted in scene.planted.items()}
        for expected, told in zip(case.allowed, each["allowed"], strict=True):
            assert {decode_bytes(path): decode_bytes(text) for path, text in told["files"].items()} == expected.tree
            if told["tree"]:
                assert {
                    os.fsencode(path): data for path, data in files_below(BUNDLE / told["tree"]).items()
                } == expected.tree
            else:
                assert not expected.tree or not is_portable(expected.tree)


@pytest.mark.parametrize(
    ("paths", "portable"),
    [([b"a", b"B/c%00.bin"], True), ([b"a\nb"], False), ([b"a\\b"], False), ([b"\xff"], False), ([b"a", b"A"], False),
     ([b"x" * 401], False), ([b"a:b"], False), (["ä".encode()], False)],
)  # fmt: skip
def test_names_that_some_file_systems_do_not_take_stand_in_the_document(paths: list[bytes], portable: bool) -> None:
    assert is_portable(paths) == portable


# ---- the loop of the README ----


def loop(tmp_path: Path, *command: str, every: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the loop on every first of so many cases of the bundle."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in BUNDLE.iterdir():
        (bundle / path.name).symlink_to(path)
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").write_text(json.dumps({**DOCUMENT, "cases": DOCUMENT["cases"][::every]}))
    readme = (ROOT / "fixtures" / "README.md").read_text()
    (script,) = re.findall(r"^```sh\n(#!/bin/sh\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert script.count("\n") <= 40, "the README says so"
    (tmp_path / "loop.sh").write_text(script)
    environment = {"PATH": f"{jq_beside(tmp_path)}:/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(tmp_path)}
    return subprocess.run(
        ["sh", str(tmp_path / "loop.sh"), str(bundle), *command],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_loop_of_the_readme_passes_the_reference(tmp_path: Path) -> None:
    decoder = tmp_path / "decoder"
    decoder.write_text(f'#!/bin/sh\nexec {sys.executable} -m ekvdump decode --no-sync --db="$3" "$1" "$2"\n')
    decoder.chmod(0o755)
    # That the bundle says what the cases say is seen above; here, that the loop takes what it says.
    told = loop(tmp_path, str(decoder), every=4)
    assert told.returncode == 0, told.stdout
    match = re.fullmatch(r"([0-9]+) passed, 0 failed, ([0-9]+) not tried\n", told.stdout)
    assert match
    assert int(match[1]) > 40
    assert int(match[1]) + int(match[2]) == len(DOCUMENT["cases"][::4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "decoder", "jq", "loop.sh"]


def test_the_loop_of_the_readme_catches_a_decoder_that_does_nothing(tmp_path: Path) -> None:
    told = loop(tmp_path, "true")
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1].startswith("0 passed, ")
    assert "rstr-envelope [RSTR-2]: " in told.stdout
