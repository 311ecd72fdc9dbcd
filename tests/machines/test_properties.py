"""Whole dumps of random stores against the naive model. [CONV-1]"""

import json
import random
from pathlib import Path

import model
import pytest
import stores
from ekvformat.decode import Options, Summary, decode
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from ekvformat.safe_writing import Tree
from hypothesis import event, given
from hypothesis import strategies as st
from in_process import read_tree
from reference_runs import WALL_TIME, all_files, reasons_of
from store_strategies import FRAMES, TIMES
from store_strategies import stores as any_store
from writer import Entry, snapshot

SELECTIONS = st.sampled_from([None, {"strings"}, {"hll"}, {"strings", "hll"}])


def write(data: bytes, name: str, out: Path, options: Options) -> Summary:
    """Decode a snapshot, which has the path `name`, into a directory."""
    tree = Tree(str(out), options.database, into_existing=False, sync=False)
    tree.check(name)
    dump = decode(data, name, options)
    tree.write(dump, Provenance(name, WALL_TIME), lambda: None)
    return dump.summary


@given(any_store(), TIMES, FRAMES, st.integers(-1, 3), SELECTIONS, st.booleans())
def test_conv_1_salv_1_a_dump_is_what_the_model_says(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[Entry],
    last_commit: int,
    frame: tuple[bytes, bool],
    database: int,
    only: set[str] | None,
    salvage: bool,
) -> None:
    out = tmp_path_factory.mktemp("dump") / "out"
    header, with_footer = frame
    data = snapshot(entries, last_commit=last_commit, header=header, with_footer=with_footer)
    expected = model.expected_dump(
        entries, last_commit, place=len(header) + 16, database=max(0, database), only=only, salvage=salvage
    )
    types = None if only is None else frozenset(only)
    try:
        summary = write(data, "snapshot", out, Options(database, types, salvage))
    except Fault as fault:
        event("refused")
        assert (fault.name, fault.clause, fault.key, fault.offset) == expected.refusal
        assert not out.exists()
        return
    assert expected.refusal is None
    event("partial" if reasons_of(summary) else "complete")
    assert vars(summary.counters) == model.expected_counters(expected)

    files = read_tree(out)
    manifest = json.loads(files["MANIFEST.json"])
    for warning in manifest["outcome"]["warnings"]:
        assert warning.pop("detail")
    assert manifest == model.expected_manifest(
        expected,
        path="snapshot",
        crc32c=data[-4:].hex() if with_footer else None,
        last_commit=last_commit,
        wall_time=WALL_TIME,
        database=max(0, database),
        everything=only is None,
    )
    assert files.pop("CHECKSUMS") == model.checksums(files)
    assert {path: content for path, content in files.items() if path != "MANIFEST.json"} == expected.files


@given(any_store(), TIMES)
def test_mani_4_a_second_run_with_the_same_time_is_byte_identical(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], last_commit: int
) -> None:
    directory, data = tmp_path_factory.mktemp("twice"), snapshot(entries, last_commit=last_commit)
    trees = []
    for out in ("one", "two"):
        try:
            write(data, "snapshot", directory / out, Options())
            trees.append(read_tree(directory / out))
        except Fault as fault:
            trees.append({"refused": str(fault).encode()})
    assert trees[0] == trees[1]


# ---- keys that are built to break a decoder ----

SEEDS = 12_000
SHARDS = 4


@pytest.mark.parametrize("shard", range(SHARDS))
def test_visi_15_every_version_is_found_and_visi_17_every_order_is_canonical(shard: int) -> None:
    size = SEEDS // SHARDS
    for seed in range(shard * size, (shard + 1) * size):
        dice = random.Random(seed)
        entries, last_commit = stores.hostile_store(dice), dice.choice([3, 2**57, 2**64 - 1])
        expected = model.expected_dump(entries, last_commit)
        dump = decode(snapshot(entries, last_commit=last_commit))
        assert all_files(dump) == expected.files, seed
        assert vars(dump.summary.counters) == model.expected_counters(expected), seed
