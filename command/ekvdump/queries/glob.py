r"""Patterns of keys as in Redis' own KEYS and SCAN.

pattern  matches
-------  --------------------------------------------------------------------
*        any bytes, also none
?        one byte
[abc]    one of these bytes; a-z is a range, ^ in front means none of them,
         and a missing ] is at the end of the pattern
\c       the byte c itself, also in brackets
"""

import re
from collections.abc import Callable
from typing import Final

ANY_BYTE: Final = b"."
NO_BYTE: Final = b"(?!)"


def matcher_of(pattern: bytes) -> Callable[[bytes], bool]:
    """Return a predicate: does a user key match the pattern?"""
    pieces = _pieces_of(pattern)
    first, *middle, last = pieces if len(pieces) > 1 else (pieces[0], b"")
    # Each piece but the last is best found as early as possible, so nothing is ever tried twice.
    text = first + b"".join(b"(?>.*?%b)" % piece for piece in middle)
    text += b".*" + last if len(pieces) > 1 else b""
    expression = re.compile(text, re.DOTALL)
    return lambda user_key: expression.fullmatch(user_key) is not None


def _pieces_of(pattern: bytes) -> list[bytes]:
    """Return the regular expressions of what stands between the stars."""
    pieces, at = [b""], 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            pieces.append(b"")
        elif byte == b"?":
            pieces[-1] += ANY_BYTE
        elif byte == b"[":
            one, at = _class_at(pattern, at)
            pieces[-1] += one
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            pieces[-1] += re.escape(byte)
    return pieces


def _class_at(pattern: bytes, at: int) -> tuple[bytes, int]:
    """Return the regular expression of a class whose bracket has been read, and where it ends."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            first, last = sorted((pattern[at], pattern[at + 2]))
            members.update(range(first, last + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    chosen = set(range(256)) - members if negated else members
    text = b"".join(b"\\x%02x" % byte for byte in sorted(chosen))
    return (b"[%b]" % text if text else NO_BYTE), at + 1
