"""Corrupted snapshots: a typed refusal or an answer, each as the model says, and never anything else."""

import lzma
import random
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import failures
import model
import pytest
from ekvconform.cases.golden_cases import load_case, load_cases
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from failures import expected_of, refused, save_case
from harness import decode_in_memory
from hypothesis import settings
from test_properties import counters_of, hostile_store
from test_real import REAL
from writer import HEADER_V1, Entry, footer, header_v2, snapshot

QUICK, DEEP = 2_000, 100_000
PROFILE = settings.default
IS_DEEP = PROFILE is not None and PROFILE.max_examples > settings.get_profile("quick").max_examples
COUNT = DEEP if IS_DEEP else QUICK
"""Of corrupted snapshots: half of golden cases and stores, half of real snapshots."""
SHARDS = 8
MAX_SIZE = 8 * 1024
"""Bytes of a golden case's snapshot that is corrupted."""
MAX_ENTRIES = 60
"""Of a real snapshot: neighbours, so that a corruption is not lost in it."""
MAX_GROWTH = 64 << 20
"""Bytes that the decoder may ask the system for; README.md says so, and the values are small."""
SIZES = [0, 1, 7, 8, 9, 255, 1_048_584, 1_048_585, 268_435_499, 268_435_500, 2**31, 2**32, 2**63, 2**64 - 1]
REAL_SNAPSHOTS = {path.parent.name: lzma.decompress(path.read_bytes()) for path in REAL.glob("*/*.fsm.xz")}
GOLDEN = [each for case in load_cases() if (each := case.scene.snapshot) is not None and len(each) <= MAX_SIZE]
WAYS = ["flip"] * 4 + ["byte"] * 3 + ["cut", "take out", "repeat", "splice", "size", "size"]


# ---- what is corrupted ----


def any_snapshot(dice: random.Random) -> bytes:
    if dice.random() < 0.5:
        return dice.choice(GOLDEN)
    header = dice.choice([HEADER_V1, header_v2(), header_v2(b"new"), b""])
    return snapshot(hostile_store(dice), header=header, with_footer=bool(header) or dice.random() < 0.5)


def places_of_sizes(data: bytes) -> list[int]:
    """Where the sizes of keys and values stand, as far as the file is sound."""
    found: list[int] = []
    try:
        place = model.read_header(data)[0] + 16
        while len(data) - place > 4:
            for limit in (1_048_584, 268_435_499):
                found.append(place)
                _, place = model.take(data, place, limit, "")
    except model.RefusedError:
        pass
    return found


def entries_of(data: bytes) -> list[Entry]:
    """All entries of a sound file, whatever their headers say."""
    sizes = places_of_sizes(data)
    texts = [model.take(data, place, len(data), "")[0] for place in sizes]
    return list(zip(texts[::2], texts[1::2], strict=True))


REAL_PARTS = {
    name: (data[: model.read_header(data)[0]], int.from_bytes(data[model.read_header(data)[0] + 8 :][:8], "little"))
    for name, data in REAL_SNAPSHOTS.items()
}
"""Header and last commit timestamp."""
REAL_ENTRIES = {name: entries_of(data) for name, data in REAL_SNAPSHOTS.items()}


def part_of_real_snapshot(dice: random.Random, name: str) -> bytes:
    """Some neighbours among the entries of a file that a live server wrote, behind its own header."""
    header, last_commit = REAL_PARTS[name]
    entries = REAL_ENTRIES[name]
    start = dice.randrange(max(1, len(entries) - 1))
    return snapshot(entries[start : start + dice.randint(1, MAX_ENTRIES)], last_commit=last_commit, header=header)


def corrupted(dice: random.Random, data: bytes) -> bytes:
    """A snapshot with up to four things done to it; most get a footer that fits again."""
    found = bytearray(data)
    while found == data:
        for _ in range(dice.choice([1, 1, 1, 2, 4])):
            corrupt(dice, found)
    if dice.random() < 0.7 and len(found) >= 4:
        found[-4:] = footer(bytes(found[:-4]))
    return bytes(found)


def corrupt(dice: random.Random, found: bytearray) -> None:
    way, place = dice.choice(WAYS), dice.randrange(len(found) + 1)
    if way == "flip" and place < len(found):
        found[place] ^= 1 << dice.randrange(8)
    elif way == "byte" and place < len(found):
        found[place] = dice.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
    elif way == "cut":
        del found[place:]
    elif way == "take out":
        del found[place : place + dice.choice([1, 2, 4, 8, 9, 17, 40])]
    elif way == "repeat":
        found[place:place] = found[place : place + dice.choice([1, 4, 8, 40])]
    elif way == "splice":
        other = dice.choice(GOLDEN)
        start = dice.randrange(len(other) + 1)
        found[place:place] = other[start : start + dice.choice([1, 8, 16, 60])]
    elif way == "size" and (sizes := places_of_sizes(bytes(found))):
        place = dice.choice(sizes)
        size = int.from_bytes(found[place : place + 8], "little")
        other_size = dice.choice([*SIZES, size + 1, max(0, size - 1), size + 8, size + 17]) % 2**64
        found[place : place + 8] = other_size.to_bytes(8, "little")


# ---- what comes of it ----


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let more memory than a decoder may need be refused; also memory that is asked for and never touched."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_GROWTH, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def answer(data: bytes, options: Options) -> tuple[object, ...]:
    """What the decoder makes of a file. Whatever it raises but a `Fault` goes through."""
    try:
        with bounded_memory():
            outcome, files = decode_in_memory(data, options)
    except Fault as fault:
        return "refused", fault.name, fault.clause, fault.offset
    return "taken", files, counters_of(outcome.counters)


def judge(data: bytes, *, salvage: bool, seed: str) -> str:
    """Compare the answer with the model's; return what it is. What is otherwise is saved as a case."""
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
    """The same ones in each quick run; in a deep one those of its own seed."""
    first = int(config.getoption("--hypothesis-seed") or 0) * DEEP if IS_DEEP else 0
    return range(first + shard * count // SHARDS, first + (shard + 1) * count // SHARDS)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_conv_8_a_corrupted_snapshot_is_refused_or_decoded_as_the_model_says(
    shard: int, pytestconfig: pytest.Config
) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds_of(pytestconfig, shard, COUNT // 2):
        dice = random.Random(seed)
        seen[judge(corrupted(dice, any_snapshot(dice)), salvage=dice.random() < 0.3, seed=str(seed))] += 1
    # It goes deep often enough, and everywhere.
    assert seen["taken"] > seen.total() // 20, seen
    assert {"truncated", "bad-magic", "too-large", "out-of-order", "footer-mismatch"} <= set(seen), seen


@pytest.mark.parametrize("shard", range(SHARDS))
def test_conv_8_a_corrupted_real_snapshot_too(shard: int, pytestconfig: pytest.Config) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds_of(pytestconfig, shard, COUNT // 2):
        dice = random.Random(seed)
        data = corrupted(dice, part_of_real_snapshot(dice, dice.choice(sorted(REAL_SNAPSHOTS))))
        seen[judge(data, salvage=dice.random() < 0.5, seed=f"{seed} of real snapshots")] += 1
    assert seen["taken"] > seen.total() // 20, seen
    assert {"truncated", "too-large", "out-of-order", "footer-mismatch"} <= set(seen), seen


@pytest.mark.parametrize("name", sorted(REAL_SNAPSHOTS))
def test_a_part_of_a_real_snapshot_that_is_not_corrupted_is_sound(name: str) -> None:
    """Or what is done to it would not be what it is refused for."""
    seen = {judge(part_of_real_snapshot(random.Random(seed), name), salvage=True, seed=name) for seed in range(20)}
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
    monkeypatch.setattr(failures, "FOLDER", tmp_path)
    data = corrupted(random.Random(1), GOLDEN[0])
    with monkeypatch.context() as patch:
        patch.setattr("test_corruption.decode_in_memory", wrong)
        with pytest.raises(AssertionError, match="seed 1, saved as") as caught:
            judge(data, salvage=False, seed="1")
    assert isinstance(caught.value.__cause__, MemoryError | IndexError)
    assert load_case(tmp_path / "conv-found-by-corruption.toml").scene.snapshot == data
