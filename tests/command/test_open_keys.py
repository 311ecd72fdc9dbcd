"""The stack of open keys finds the versions that the reference finds; each wrong variant of it is noticed."""

import random
from collections.abc import Sequence

import pytest
import stores
from command_runs import decode_in_memory
from ekvdump.engine import versions
from ekvdump.engine.versions import Body, OpenKeys
from ekvformat.decode import decode
from reference_runs import all_files
from writer import operational, put, snapshot

SEEDS = 3000


def first_difference(seeds: range) -> int | None:
    """Return the first seed whose store the command decodes otherwise than the reference, or None."""
    for seed in seeds:
        dice = random.Random(seed)
        data = snapshot(stores.hostile_store(dice), last_commit=dice.choice([3, 2**57, 2**64 - 1]))
        reference = decode(data)
        try:
            outcome, files = decode_in_memory(data)
        except Exception:
            return seed
        if files != all_files(reference) or vars(outcome.counters) != vars(reference.summary.counters):
            return seed
    return None


def test_visi_18_visi_19_visi_20_the_stack_finds_every_version() -> None:
    assert first_difference(range(SEEDS)) is None


def test_visi_9_records_around_the_nodes_own_rows_are_found() -> None:
    entries = [put(b"^", 1, b"before"), operational(b"_meta_applied_index", 7), put(b"_n", 1, b"behind")]
    _, files = decode_in_memory(snapshot(entries))
    assert sorted(files.values()) == [b"before", b"behind"]


class ComparesStorageKeys(OpenKeys):
    """Closes a key that is no prefix of the *storage* key at hand. [VISI-18]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        closed = list(super().advance(encoded_key))
        while self._sizes and self._sizes[-1] > len(encoded_key) - 8:
            closed.append((self._sizes.pop(), self._bodies.pop()))
        self.longest = encoded_key[: self._sizes[-1]] if self._sizes else b""
        return closed


class PushesOnTop(OpenKeys):
    """Puts a key that arrives on top of the stack, whatever its size. [VISI-19]"""

    def is_open(self, size: int) -> bool:
        return size in self._sizes

    def open(self, size: int, body: Body | None) -> None:
        self._sizes.append(size)
        self._bodies.append(body)
        self.longest = self.current[:size]


class ShortestFirst(OpenKeys):
    """Closes the shortest of several keys first. [VISI-20]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        return super().advance(encoded_key)[::-1]

    def close_all(self) -> Sequence[tuple[int, Body | None]]:
        return super().close_all()[::-1]


class ComparesWithPreviousOnly(OpenKeys):
    """Closes a key as soon as an entry of another one comes. [VISI-15]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        closed = []
        if self._sizes and self.current[: self._sizes[-1]] != encoded_key[:-8]:
            closed.append((self._sizes.pop(), self._bodies.pop()))
        self.current = encoded_key
        return closed


@pytest.mark.parametrize(
    "variant",
    [ComparesStorageKeys, PushesOnTop, ShortestFirst, ComparesWithPreviousOnly],
    ids=lambda kind: kind.__name__,
)
def test_visi_18_visi_19_visi_20_each_wrong_variant_is_caught(
    variant: type[OpenKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "OpenKeys", variant)
    assert first_difference(range(SEEDS)) is not None
