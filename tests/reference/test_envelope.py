"""Chapter ENVL: the bodies of strings and HLLs, whose envelopes differ in one byte."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from ekvformat.envelope import Value
from ekvformat.outcomes import Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_strings import decode_bare_value, decode_string_value
from hypothesis import given
from model import UnreadableError, read_value
from reference_runs import MAX_EXPIRY_MS, fault_of
from store_strategies import BODIES
from writer import envelope


class Layout(NamedTuple):
    """What strings and HLLs do not have in common."""

    kind: int
    """The second byte of an envelope."""
    decode: Callable[..., Value]

    @property
    def prefix(self) -> bytes:
        return bytes([0xFF, self.kind])


STRING = Layout(1, decode_string_value)
HLL = Layout(2, decode_hll_value)

pytestmark = pytest.mark.parametrize("layout", [STRING, HLL], ids=["string", "hll"])


@given(body=BODIES)
def test_envl_1_envl_2_every_body_is_what_the_model_says(layout: Layout, body: bytes) -> None:
    try:
        payload, expiry_ms, _ = read_value(body, layout.kind)
    except UnreadableError as unreadable:
        clause, offset = unreadable.args
        with pytest.raises(Fault) as caught:
            layout.decode(body, 100, b"k")
        assert fault_of(caught.value) == ("invalid-value", clause, 100 + offset)
        assert caught.value.key == b"k"
    else:
        assert layout.decode(body) == Value(payload, expiry_ms)


CUTS = [(b"", 4, "flags"), (b"\x01", 5, "expiry"), (b"\x01abc", 5, "expiry")]
"""What is behind the prefix, the number of the clause that is broken, and the field that is cut."""


@pytest.mark.parametrize(("rest", "clause", "field"), CUTS)
def test_envl_4_envl_5_a_cut_names_its_field(layout: Layout, rest: bytes, clause: int, field: str) -> None:
    with pytest.raises(Fault, match=rf" bytes of the {field} are there") as caught:
        layout.decode(layout.prefix + rest)
    # A caller that does not know where the body is gets offsets within it.
    assert fault_of(caught.value) == ("invalid-value", f"ENVL-{clause}", clause - 2)
    assert caught.value.key == b""


@pytest.mark.parametrize("bit", range(1, 8))
def test_envl_6_other_flags_are_ignored(layout: Layout, bit: int) -> None:
    for expiry_ms in (None, 7):
        body = envelope(layout.kind, b"v", expiry_ms, other_flags=1 << bit)
        assert layout.decode(body) == Value(b"v", expiry_ms)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (0, 0),  # ENVL-8: an expiry, and not the absence of one
        (MAX_EXPIRY_MS - 1, MAX_EXPIRY_MS - 1),
        (MAX_EXPIRY_MS, MAX_EXPIRY_MS),
        (MAX_EXPIRY_MS + 1, MAX_EXPIRY_MS),
        (2**64 - 1, MAX_EXPIRY_MS),
    ],
)
def test_envl_7_envl_8_an_expiry_above_the_greatest_counts_as_that(layout: Layout, stored: int, shown: int) -> None:
    assert layout.decode(envelope(layout.kind, b"", stored)) == Value(b"", shown)


@pytest.mark.parametrize("payload", [b"", b"\xff\x01", b"\xff\x02", b"\n"])
def test_envl_9_the_payload_is_what_is_left(layout: Layout, payload: bytes) -> None:
    for expiry_ms in (None, 5):
        assert layout.decode(envelope(layout.kind, payload, expiry_ms)) == Value(payload, expiry_ms)


def test_rstr_3_a_bare_string_is_its_body_whichever_envelope_it_looks_like(layout: Layout) -> None:
    for body in (layout.prefix, layout.prefix + b"\x01short", envelope(layout.kind, b"v", 5)):
        assert decode_bare_value(body) == Value(body, None)
