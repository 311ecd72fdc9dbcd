"""Corrupted snapshots: a typed refusal or an answer, each as the model says, and never anything else."""

import lzma
import random
import resource
from collections import Counter

import model
import pytest
from ekvconform.cases import load_cases
from ekvdump.outcomes import Fault
from ekvdump.outputs import Options
from harness import decode_in_memory
from hypothesis import settings
from test_properties import counters_of, hostile_store
from test_real import REAL
from writer import HEADER_V1, footer, header_v2, snapshot

pytestmark = pytest.mark.unmeasured

QUICK, DEEP = 2_000, 100_000
PROFILE = settings.default
COUNT = DEEP if PROFILE is not None and PROFILE.max_examples > settings.get_profile("quick").max_examples else QUICK
SHARDS = 8
MAX_SIZE = 8 * 1024
"""Bytes of a golden case's snapshot that is corrupted."""
MAX_GROWTH_MIB = 300
SIZES = [0, 1, 7, 8, 9, 255, 1_048_584, 1_048_585, 268_435_499, 268_435_500, 2**31, 2**32, 2**63, 2**64 - 1]
REAL_SNAPSHOTS = {path.parent.name: lzma.decompress(path.read_bytes()) for path in REAL.glob("*/*.fsm.xz")}
GOLDEN = [each for case in load_cases() if (each := case.scene.snapshot) is not None and len(each) <= MAX_SIZE]


def any_snapshot(dice: random.Random) -> bytes:
    if dice.random() < 0.5:
        return dice.choice(GOLDEN)
    header = dice.choice([HEADER_V1, header_v2(), header_v2(b"new"), b""])
    return snapshot(hostile_store(dice), header=header, with_footer=bool(header) or dice.random() < 0.5)


def corrupted(dice: random.Random, data: bytes) -> bytes:
    """A snapshot with up to four things done to it; most get a footer that fits again."""
    found = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        place = dice.randrange(len(found) + 1)
        way = dice.choice(["flip"] * 4 + ["byte"] * 3 + ["cut", "take out", "repeat", "splice", "size"])
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
        elif way == "size":
            found[place : place + 8] = dice.choice(SIZES).to_bytes(8, "little")
    if dice.random() < 0.7 and len(found) >= 4:
        found[-4:] = footer(bytes(found[:-4]))
    return bytes(found)


def answer(data: bytes, options: Options) -> object:
    """What the decoder makes of a file. Whatever it raises but a `Fault` goes through."""
    try:
        outcome, files = decode_in_memory(data, options)
    except Fault as fault:
        return "refused", fault.name, fault.clause, fault.offset
    return "taken", files, counters_of(outcome.counters)


def answer_of_model(data: bytes, *, salvage: bool) -> object:
    try:
        read = model.read_file(data)
    except model.RefusedError as refused:
        return "refused", *refused.args
    expected = model.expected_dump(read.entries, read.last_commit, place=read.place, salvage=salvage)
    if expected.refusal is not None:
        fault, clause, _, offset = expected.refusal
        return "refused", fault, clause, offset
    return "taken", expected.files, model.expected_counters(expected)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_conv_8_a_corrupted_snapshot_is_refused_or_decoded_as_the_model_says(shard: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen: Counter[str] = Counter()
    for seed in range(shard * COUNT // SHARDS, (shard + 1) * COUNT // SHARDS):
        dice = random.Random(seed)
        data = corrupted(dice, any_snapshot(dice))
        salvage = dice.random() < 0.3
        found = answer(data, Options(salvage=salvage))
        assert found == answer_of_model(data, salvage=salvage), f"seed {seed}: {data.hex()}"
        assert isinstance(found, tuple)
        seen[found[1] if found[0] == "refused" else "taken"] += 1
    # It goes deep often enough, and everywhere.
    assert seen["taken"] > COUNT // SHARDS // 20, seen
    assert {"truncated", "bad-magic", "too-large", "out-of-order", "footer-mismatch"} <= set(seen), seen
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert growth < MAX_GROWTH_MIB


@pytest.mark.parametrize("name", sorted(REAL_SNAPSHOTS))
def test_conv_8_a_corrupted_real_snapshot_too(name: str) -> None:
    whole = REAL_SNAPSHOTS[name]
    count = COUNT // 100
    for seed in range(count):
        dice = random.Random(seed)
        # Its beginning, so that a corruption is not lost in it; with a footer of its own.
        data = corrupted(dice, whole[: dice.randint(100, 20_000)])
        found = answer(data, Options(salvage=True))
        assert found == answer_of_model(data, salvage=True), f"seed {seed}"
