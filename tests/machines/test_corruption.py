"""Corrupted snapshots: a typed refusal or an answer, each as the model says, and never anything else."""

import random
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import failures
import model
import pytest
import stores
from ekvconform.cases.golden_cases import load_case
from ekvformat.decode import Options, decode
from ekvformat.outcomes import Fault
from failures import expected_of, refused, save_case
from reach import is_deep
from reference_runs import all_files

QUICK, DEEP = 2_000, 100_000
IS_DEEP = is_deep()
COUNT = DEEP if IS_DEEP else QUICK
"""Corrupted snapshots: half are of golden cases and stores, half of real snapshots."""
SHARDS = 8
MAX_GROWTH = 64 << 20
"""Bytes that the decoder may ask the system for: the values are small."""
REAL_NAMES = sorted(stores.real_snapshots())


# ---- what comes of it ----


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Make an allocation fail that is larger than a decoder needs, also if it is never touched."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_GROWTH, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def answer(data: bytes, options: Options) -> tuple[object, ...]:
    """Return what the decoder makes of a file. An exception that is not a `Fault` fails the test."""
    try:
        with bounded_memory():
            dump = decode(data, "", options)
    except Fault as fault:
        return "refused", fault.name, fault.clause, fault.offset
    return "taken", all_files(dump), vars(dump.summary.counters)


def judge(data: bytes, *, salvage: bool, seed: str) -> str:
    """Compare the answer with the model's and return it. A difference is saved as a golden case."""
    try:
        read = model.read_file(data)
    except model.RefusedError as error:
        fault, clause, offset = error.args
        wanted: tuple[object, ...] = ("refused", fault, clause, offset)
        case = refused(fault, clause, "untouched", offset)
    else:
        expected = model.expected_dump(read.entries, read.last_commit, place=read.place, salvage=salvage)
        case = expected_of(expected, has_footer=read.has_footer)
        if expected.refusal is not None:
            fault, clause, _, offset = expected.refusal
            wanted = ("refused", fault, clause, offset)
        else:
            wanted = ("taken", expected.files, model.expected_counters(expected))
    options = Options(salvage=salvage)
    try:
        found = answer(data, options)
        assert found == wanted
    except Exception as error:
        path = save_case("conv-found-by-corruption", data, options, case)
        raise AssertionError(f"seed {seed}, saved as {path}") from error
    return str(found[1]) if found[0] == "refused" else "taken"


def seeds_of(config: pytest.Config, shard: int, count: int) -> range:
    """Return the seeds: the same in each quick run, and others for each `--hypothesis-seed` of a deep run."""
    first = int(config.getoption("--hypothesis-seed") or 0) * DEEP if IS_DEEP else 0
    return range(first + shard * count // SHARDS, first + (shard + 1) * count // SHARDS)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_conv_9_a_corrupted_snapshot_is_refused_or_decoded_as_the_model_says(
    shard: int, pytestconfig: pytest.Config
) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds_of(pytestconfig, shard, COUNT // 2):
        dice = random.Random(seed)
        seen[judge(stores.corrupted(dice, stores.any_snapshot(dice)), salvage=dice.random() < 0.3, seed=str(seed))] += 1
    # It goes deep, and everywhere. Few are taken, and a shard of a quick run has no more than 125 snapshots.
    assert seen["taken"] >= seen.total() // 60, seen
    assert {"truncated", "bad-magic", "too-large", "out-of-order", "footer-mismatch"} <= set(seen), seen


@pytest.mark.parametrize("shard", range(SHARDS))
def test_conv_9_a_corrupted_real_snapshot_too(shard: int, pytestconfig: pytest.Config) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds_of(pytestconfig, shard, COUNT // 2):
        dice = random.Random(seed)
        data = stores.corrupted(dice, stores.part_of_real_snapshot(dice, dice.choice(REAL_NAMES)))
        seen[judge(data, salvage=dice.random() < 0.5, seed=f"{seed} of real snapshots")] += 1
    assert seen["taken"] > seen.total() // 20, seen
    assert {"truncated", "too-large", "out-of-order", "footer-mismatch"} <= set(seen), seen


@pytest.mark.parametrize("name", REAL_NAMES)
def test_a_part_of_a_real_snapshot_that_is_not_corrupted_is_sound(name: str) -> None:
    """Otherwise it would not be refused for its damage."""
    seen = {
        judge(stores.part_of_real_snapshot(random.Random(seed), name), salvage=True, seed=name) for seed in range(20)
    }
    assert seen <= {"taken", "encrypted"}
    assert ("encrypted" in seen) == (name == "encrypted")


# ---- what a wrong decoder does is seen ----


def too_much(*_: object) -> object:
    return bytes(2 * MAX_GROWTH)


def something_else(*_: object) -> object:
    raise IndexError("index out of range")


@pytest.mark.parametrize("wrong", [too_much, something_else])
def test_what_asks_for_too_much_memory_or_raises_anything_else_is_saved_as_a_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: object
) -> None:
    monkeypatch.setattr(failures, "DIRECTORY", tmp_path)
    data = stores.corrupted(random.Random(1), stores.golden_snapshots()[0])
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.decode", wrong)
        with pytest.raises(AssertionError, match="seed 1, saved as") as caught:
            judge(data, salvage=False, seed="1")
    assert isinstance(caught.value.__cause__, MemoryError | IndexError)
    assert load_case(tmp_path / "conv-found-by-corruption.toml").scene.snapshot == data
