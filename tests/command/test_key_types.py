"""Types of keys by bisection: the same as the reference's, for every key around every prefix. [KEYS-1]"""

import pytest
from ekvdump.engine import key_types
from ekvformat.keys import PREFIXES, TYPE_OF_PREFIX, type_of

ALL_PREFIXES = [prefix for prefixes in PREFIXES.values() for prefix in prefixes]


@pytest.mark.parametrize("prefix", ALL_PREFIXES)
def test_keys_1_the_type_of_every_key_around_a_prefix_is_the_references(prefix: bytes) -> None:
    around = {prefix, prefix + b"\0", prefix + b"\xff" * 3, prefix[:-1], prefix[:-1] + b"\0"}
    if prefix:
        around |= {prefix[:-1] + bytes((prefix[-1] + 1,)), prefix[:-1] + bytes((prefix[-1] - 1,)) + b"\xff"}
    for key in around:
        assert key_types.type_of(key) == type_of(key), key
        assert TYPE_OF_PREFIX[key_types.prefix_of(key)] == type_of(key), key


@pytest.mark.parametrize("prefix", ALL_PREFIXES)
def test_keys_1_the_prefix_of_a_key_can_be_shown(prefix: bytes) -> None:
    assert key_types.prefix_of(prefix + b"\0") == prefix
