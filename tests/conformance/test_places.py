"""What may lie at each place before a run: the table is whole, and a naive writer is caught at every place."""

import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from ekvconform.cases.families.places import load_places
from ekvconform.cases.loading import load_cases
from ekvconform.judge.verdicts import Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.run.profiles import make_profile
from golden import BY_PATH, ELSEWHERE

ROOT = Path(__file__).resolve().parents[2]
TABLE = tomllib.loads((ROOT / "fixtures" / "places.toml").read_text())
CASES = {case.id: case for case in load_cases() if case.id.startswith("safe-at-")}

# Writes by path, as one writes without a thought: through whatever lies there.
NAIVE = """
import os, sys
out, way = sys.argv[1:3]
files = {
    "redis/db_0/strings/k.bin": b"v", "redis/db_0/hll/h.bin": b"h", "redis/db_0/strings_ttl.jsonl": b"row",
    "redis/db_0/hll_ttl.jsonl": b"row", "redis/db_0/KEYMAP.jsonl": b"line",
    "redis/db_0/hashes/h.json": b"{}", "redis/db_0/lists/l.json": b"{}", "redis/db_0/sets/s.json": b"{}",
    "redis/db_0/zsets/z.json": b"{}", "redis/db_0/streams/x.jsonl": b"{}",
    "redis/db_0/unreadable/u.string.bin": b"u", "redis/db_0/unreadable.jsonl": b"line",
    "MANIFEST.json": b"{}", "CHECKSUMS": b"sums",
}
for path, data in files.items():
    place = os.path.join(out, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    through = os.path.join(os.path.dirname(place), ".ekvdump.tmp") if way == "rename" else place
    with open(through, "wb") as file:
        file.write(data)
    if way == "rename":
        os.rename(through, place)
"""


def naive(way: str, ids: list[str]) -> dict[str, Judgement]:
    """Judge the naive writer, which writes in place or beside it and renames."""
    command = [sys.executable, "-I", "-S", "-c", NAIVE, "{out}", way, "{snapshot}", "{options}"]
    profile = make_profile({"command": command, "options": {"into_existing": [], "salvage": []}}).located()
    cases = [CASES[case_id] for case_id in ids]
    found = judge_cases(cases, profile, 2, strict_reasons=False, on_result=lambda judgement: None)
    return {judgement.case.id: judgement for judgement in found}


def test_every_place_meets_every_kind_of_its_class() -> None:
    assert len(CASES) > 200
    assert {case.id: case for case in load_places(ROOT / "fixtures" / "places.toml")} == CASES
    assert {at["class"] for at in TABLE["places"].values()} == set(TABLE["classes"])
    used = {kind for kinds in TABLE["classes"].values() for kind in kinds}
    assert used == set(TABLE["kinds"])
    # Whatever a place is for, these may lie there.
    for name, kinds in TABLE["classes"].items():
        assert {
            "symlink-to-file", "symlink-to-directory", "dangling-symlink", "looping-symlink", "fifo",
            "fifo-with-reader", "socket", "device", "file", "directory",
        } <= set(kinds), name  # fmt: skip


def test_the_table_follows_the_table_of_the_spec() -> None:
    """The spec's table has a column each for blobs, sidecars and directories; seals are like sidecars. [SAFE-18]"""
    spec = (ROOT / "spec" / "writing" / "24-safe-writing.md").read_text()
    (table,) = re.findall(r"^\| what lies there \|.*\n\|.*\n((?:\|.*\n)+)", spec, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    kinds = {
        "symlink": ["symlink-to-file", "symlink-to-directory", "dangling-symlink", "looping-symlink"],
        "FIFO": ["fifo", "fifo-with-reader", "socket", "device"],
        "hard link": ["hard-link"],
        "regular file": ["file"],
        "directory": ["directory"],
    }
    assert len(rows) == len(kinds)
    for words, *fates in rows:
        names = next(names for beginning, names in kinds.items() if words.startswith(beginning))
        for column, group in enumerate((["blob"], ["sidecar", "seal"], ["directory"])):
            for name in (each for group_name in group for each in [TABLE["classes"][group_name]]):
                for kind in names:
                    refuses = name[kind][0] == "unsafe-path" if kind in name else None
                    assert refuses == (None if fates[column] == "-" else fates[column].startswith("refuse")), (
                        words,
                        kind,
                    )


@pytest.mark.parametrize("way", ["in place", "rename"])
def test_a_naive_writer_is_caught_outside(way: str) -> None:
    places = {
        "in place": {
            "symlink-to-file": ["blob", "sidecar", "seal"],
            "hard-link": ["blob", "sidecar", "seal"],
            "dangling-symlink": ["blob", "sidecar", "seal"],
            "symlink-to-directory": ["directory"],
            "fifo-with-reader": ["sidecar", "seal"],
        },
        "rename": {
            "symlink-to-file": ["temporary"],
            "hard-link": ["temporary"],
            "dangling-symlink": ["temporary"],
            "symlink-to-directory": ["directory"],
        },
    }[way]
    ids = [
        f"safe-at-{place}-{kind}"
        for kind, classes in places.items()
        for place, at in TABLE["places"].items()
        if at["class"] in classes
    ]
    assert len(ids) >= 12
    found = naive(way, ids)
    assert {case_id: each.verdict for case_id, each in found.items()} == dict.fromkeys(ids, "ESCAPED")


def test_the_writer_without_handles_passes_where_it_may_not_write_and_deep_down() -> None:
    """The other places are test_golden_cases.py's."""
    cases = [case for case in ELSEWHERE if case.scene.during is None and case.chapter in ("tree", "safe", "into")]
    assert len(cases) >= 8
    # Each of 512 directories is entered from the top, by its path; that takes long, and is no hang.
    patient = replace(BY_PATH, limits=replace(BY_PATH.limits, seconds=120.0))
    found = judge_cases(cases, patient, 2, strict_reasons=True, on_result=lambda judgement: None)
    assert [each.case.id for each in found if each.verdict != "PASS"] == []
