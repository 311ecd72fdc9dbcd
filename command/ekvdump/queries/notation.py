r"""User keys as words of a command line, both ways.

A key that is printable text is its own word. Every other key is written as `redis-cli`
shows it: in double quotes, with `\xHH` for what cannot be printed. A word is taken as that
notation if it begins with a double quote, and as the bytes of the key otherwise.
"""

import os
import re
import shlex
from typing import Final

from ekvexplain.pieces import ESCAPES, printable

QUOTE: Final = '"'
ESCAPE: Final = re.compile(rb'\\(x[0-9a-fA-F]{2}|.)|"', re.DOTALL)
"""An escape, or a quote that ends the key too early."""
BYTE_OF_ESCAPE: Final = {ord(written[1]): bytes((byte,)) for byte, written in ESCAPES.items()}
"""The character behind a backslash = the byte it stands for; any other stands for itself."""


def is_notation(word: str) -> bool:
    """Return True for a word in the notation of `redis-cli`."""
    return word.startswith(QUOTE)


def decode_word(word: str) -> bytes:
    """Return the user key that a word of the command line means.

    Raises `ValueError` for a broken notation.
    """
    data = os.fsencode(word)
    if not is_notation(word):
        return data

    def decode_escape(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape is None:
            raise ValueError('a double quote inside the quotes is written \\"')
        if len(escape) > 1:
            return bytes((int(escape[1:], 16),))
        return BYTE_OF_ESCAPE.get(escape[0], escape)

    inner = data[1:-1]
    if len(data) < 2 or not word.endswith(QUOTE):
        raise ValueError("the closing quote is missing")
    if (len(inner) - len(inner.rstrip(b"\\"))) % 2:
        raise ValueError("the closing quote is missing: the last one is escaped")
    return ESCAPE.sub(decode_escape, inner)


def word_of(user_key: bytes) -> str:
    """Return the word that means a user key, printable whatever the key is."""
    try:
        text = user_key.decode()
    except UnicodeDecodeError:
        return printable(user_key, len(user_key))
    # An option begins with a dash.
    if text.isprintable() and not is_notation(text) and not text.startswith("-"):
        return text
    return printable(user_key, len(user_key))


def shell_word_of(user_key: bytes) -> str:
    """Return the word that means a user key as a shell reads it, ready to be pasted."""
    return shlex.quote(word_of(user_key))
