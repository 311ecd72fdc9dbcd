"""A contract with a planted fault: the run that does not refute it proves nothing of the others."""

from ekvformat.redis_ttls import decode_ttl_value
from writer import expiry


def planted(expiry_ms: int) -> int:
    """Say that no expiry is clamped, which is wrong of one in two.

    pre: 0 <= expiry_ms < 2**64
    post: __return__ == expiry_ms
    """
    return decode_ttl_value(expiry(expiry_ms))
