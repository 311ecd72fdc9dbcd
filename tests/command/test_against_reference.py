"""The command against the reference, on the same snapshots: the same files, counters and warnings, or the same fault.

The two have the rules of single values in common, and share nothing else: one streams, through
bounded windows, and the other holds everything in tables.
"""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import stores
from command_runs import WALL_TIME, decode_in_memory
from ekvdump.engine import collection_index
from ekvdump.run import Run
from ekvformat.completeness import DumpWarning
from ekvformat.decode import Options, decode
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from ekvformat.safe_writing import Tree
from hypothesis import settings
from in_process import read_tree
from writer import Entry

PROFILE = settings.default
IS_DEEP = PROFILE is not None and PROFILE.max_examples > settings.get_profile("quick").max_examples

QUICK, DEEP = 4_000, 200_000
COUNT = DEEP if IS_DEEP else QUICK
"""Snapshots that both decode in memory."""
SHARDS = 4
TREES = 100
"""Pairs of snapshots that both write into a directory, one after the other."""
KINDS = ("hostile", "mixed", "mixed as of an earlier commit", "damaged", "damaged real")
SELECTIONS = (None, None, frozenset({"strings"}), frozenset({"hll"}), frozenset({"strings", "hll"}))
KEPT_SIZES = (0, 100, collection_index.KEPT_SIZE)
"""Bytes of the records of a user key that are kept in memory; those of others are read again."""
BLOB_DEPTH = 3
"""Directories above a blob; sidecars have fewer."""
REAL_NAMES = sorted(stores.real_snapshots())


class Answer(NamedTuple):
    """What a decoder makes of a snapshot; only `fault` is not None if it is refused."""

    files: dict[str, bytes] | None
    blob_order: list[str] | None
    counters: dict[str, dict[str, int]] | None
    warnings: list[tuple[str, int, tuple[str, ...]]] | None
    fault: tuple[str, str, int | None, bytes | None] | None


# ---- what is decoded ----


def snapshot_of(seed: int) -> tuple[str, bytes, Options]:
    """Return the kind of this seed's snapshot, the snapshot, and the options to decode it with."""
    dice, kind = random.Random(seed), KINDS[seed % len(KINDS)]
    if kind == "hostile":
        data = stores.framed(dice, stores.hostile_store(dice), dice.choice([3, 2**57, 2**64 - 1]))
    elif kind == "mixed":
        data = stores.framed(dice, stores.mixed_store(dice), 12)
    elif kind == "mixed as of an earlier commit":
        data = stores.framed(dice, odd_headers(dice, stores.mixed_store(dice)), dice.choice([5, 10]))
    elif kind == "damaged":
        data = stores.corrupted(dice, stores.any_snapshot(dice))
    else:
        data = stores.corrupted(dice, stores.part_of_real_snapshot(dice, dice.choice(REAL_NAMES)))
    return kind, data, Options(dice.choice([0, -1, 7]), dice.choice(SELECTIONS), dice.random() < 0.4, *part_of(dice))


def part_of(dice: random.Random) -> tuple[bytes | None, bytes | None]:
    """Return which keys are wanted: in most runs all. [COMP-10]"""
    key = dice.choice([b"", b"a", b"ab", b"\xff", b"x" * 241])
    return dice.choice([(None, None)] * 4 + [(key, None), (None, key)])


def odd_headers(dice: random.Random, entries: list[Entry]) -> list[Entry]:
    """Return the entries, now and then one of them with flags that are refused or too short. [VISI-1] to [VISI-5]"""
    found = dict(entries)
    if entries and dice.random() < 0.2:
        key, value = dice.choice(entries)
        del found[key]
        key = dice.choice([key, key, key, key[:7]])
        found[key] = dice.choice([bytes((flags,)) + value[1:] for flags in (0b10, 0b100, 0b1000, 0b11)] + [value[:8]])
    return sorted(found.items())


def first_seed(config: pytest.Config) -> int:
    """The quick profile takes the same seeds in each run, a deep one those of its own."""
    return int(config.getoption("--hypothesis-seed") or 0) * DEEP if IS_DEEP else 0


# ---- in memory ----


def by_command(data: bytes, options: Options) -> Answer:
    try:
        outcome, files = decode_in_memory(data, options)
    except Fault as fault:
        return refused(fault)
    return Answer(files, blobs_of(files), vars(outcome.counters), without_words(outcome.warnings), None)


def by_reference(data: bytes, options: Options) -> Answer:
    try:
        dump = decode(data, "", options)
    except Fault as fault:
        return refused(fault)
    summary, files = dump.summary, dump.blobs | dump.sidecars
    return Answer(files, blobs_of(files), vars(summary.counters), without_words(summary.warnings), None)


def refused(fault: Fault) -> Answer:
    return Answer(None, None, None, None, (fault.name, fault.clause, fault.offset, fault.key))


def blobs_of(files: dict[str, bytes]) -> list[str]:
    """Return the paths of blobs, in output order. [OUTC-5]"""
    return [path for path in files if path.count("/") == BLOB_DEPTH]


def without_words(warnings: list[DumpWarning]) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(warning.name, warning.count, warning.about) for warning in warnings]


def compare(seed: int) -> str:
    """Compare both on the snapshot of a seed; return the fault's name, or `taken`."""
    kind, data, options = snapshot_of(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection_index, "KEPT_SIZE", KEPT_SIZES[seed % len(KEPT_SIZES)])
        command = by_command(data, options)
    reference = by_reference(data, options)
    for name in Answer._fields:
        found, wanted = getattr(command, name), getattr(reference, name)
        assert found == wanted, f"seed {seed}, {kind}, {options}: other {name.replace('_', ' ')}"
    return "taken" if reference.fault is None else reference.fault[0]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_command_decodes_a_snapshot_as_the_reference_does(shard: int, pytestconfig: pytest.Config) -> None:
    first = first_seed(pytestconfig)
    seeds = range(first + shard * COUNT // SHARDS, first + (shard + 1) * COUNT // SHARDS)
    seen = Counter(map(compare, seeds))
    # Both outcomes are frequent, and the faults are of every kind.
    assert seen["taken"] > len(seeds) // 4, seen
    faults = {"truncated", "bad-magic", "too-large", "out-of-order", "footer-mismatch", "too-short", "reserved-bits"}
    assert faults | {"invalid-value", "encrypted"} <= set(seen), seen


# ---- whole trees ----


class Step(NamedTuple):
    """One decode into a directory, by one of the two."""

    data: bytes
    name: str
    options: Options
    provenance: Provenance
    into_existing: bool


def steps_of(seed: int) -> list[Step]:
    """Return two decodes into one directory: other stores, and the same database or another."""
    dice = random.Random(seed)
    steps = []
    for number in range(2):
        name = dice.choice(["snapshot", f"{dice.choice([0, 4, 7, 2**64 - 1]):016x}.fsm"])
        entries = dice.choice([stores.mixed_store, stores.mixed_store, stores.hostile_store])(dice)
        data = stores.framed(dice, entries, dice.choice([5, 12, 2**57]))
        options = Options(dice.choice([0, 0, -1, 7, 20]), dice.choice(SELECTIONS), dice.random() < 0.8, *part_of(dice))
        words = dice.choice([(None, None), ("c & é", "1.2"), ("a\udcff", "")])
        into_existing = number > 0 and dice.random() < 0.9
        steps.append(Step(data, name, options, Provenance(name, WALL_TIME, *words), into_existing))
    return steps


def write_by_command(step: Step, directory: Path) -> list[DumpWarning]:
    run = Run(step.name, str(directory), step.options, step.provenance, into_existing=step.into_existing, sync=False)
    return run.run().warnings


def write_by_reference(step: Step, directory: Path) -> list[DumpWarning]:
    tree = Tree(str(directory), step.options.database, step.into_existing, sync=False)
    tree.check(step.name)
    return tree.write(decode(step.data, step.name, step.options), step.provenance, lambda: None)


def write(by: Callable[[Step, Path], list[DumpWarning]], step: Step, directory: Path) -> tuple[object, ...]:
    """Let one of the two write; return its warnings, or its fault with the path below `directory`."""
    try:
        return ("written", by(step, directory))
    except Fault as fault:
        path = fault.path and fault.path.removeprefix(str(directory))
        return fault.name, fault.clause, fault.offset, path, fault.key


def compare_trees(seed: int, directory: Path) -> list[str]:
    """Compare what both write, byte for byte; return how the decodes ended."""
    directory.mkdir()
    ends = []
    for number, step in enumerate(steps_of(seed)):
        where = f"seed {seed}, decode {number}, {step.options}, into existing: {step.into_existing}"
        Path(step.name).write_bytes(step.data)
        command = write(write_by_command, step, directory / "command")
        reference = write(write_by_reference, step, directory / "reference")
        assert command == reference, where
        if reference[0] == "written":
            files, wanted = read_tree(directory / "command"), read_tree(directory / "reference")
            assert sorted(files) == sorted(wanted), where
            for path, content in files.items():
                assert content == wanted[path], f"{where}: {path}"
            assert {"MANIFEST.json", "CHECKSUMS"} <= set(files)
        ends.append(f"{reference[0]}{' over another dump' * (number > 0)}")
        if reference[0] == "invalid-value":
            break  # What a refused run leaves behind is free, but for the seal. [SAFE-27]
    return ends


def test_the_command_writes_the_bytes_that_the_reference_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(tmp_path)
    first = first_seed(pytestconfig)
    seen: Counter[str] = Counter()
    for seed in range(first, first + TREES):
        seen.update(compare_trees(seed, tmp_path / str(seed)))
    assert seen["written over another dump"] > TREES // 4, seen
    assert seen["not-empty over another dump"] > 0, seen


# ---- what a wrong rule does is seen ----


@pytest.mark.parametrize(
    ("place", "wrong", "what"),
    [
        ("ekvdump.engine.versions.decode_state", lambda *_: "exists", "files"),
        ("ekvdump.engine.entries.MAX_KEY_SIZE", 2**64, "fault"),
        ("ekvdump.engine.outputs.MAX_ORPHAN_EXAMPLES", 0, "warnings"),
        ("ekvformat.decode.CANONICAL_ORDER", lambda key: key, "blob order"),
        ("ekvformat.visibility.TOMBSTONE", 0, "files"),
    ],
)
def test_one_rule_that_is_wrong_in_either_is_noticed(
    monkeypatch: pytest.MonkeyPatch, place: str, wrong: object, what: str
) -> None:
    monkeypatch.setattr(place, wrong)
    with pytest.raises(AssertionError, match=rf"^seed [0-9]+, [a-z ]+, .*: other {what}"):
        Counter(map(compare, range(2000)))


def test_one_byte_that_is_wrong_in_a_tree_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "ekvformat.safe_writing.render_checksum_line", lambda path, sha256: sha256 + b" *" + path + b"\n"
    )
    with pytest.raises(AssertionError, match=r"^seed [0-9]+, decode 0, .*: CHECKSUMS"):
        Counter(ends for seed in range(20) for ends in compare_trees(seed, tmp_path / str(seed)))
