r"""CHECKSUMS: the seal of a dump. Implements spec chapter SUMS.

A line [SUMS-1], and the line of a path that holds LF, CR or a backslash [SUMS-2]:

    <64 hex digits of SHA-256>  <path> LF
    \<64 hex digits of SHA-256>  <path with \n, \r and \\ for these bytes> LF

It is the format of `sha256sum`, so that no tool of ours is needed to check a dump.
[SUMS-4]
"""

import hashlib
from typing import Final

CHECKSUMS_NAME: Final = "CHECKSUMS"
"""Appears last, so it means that every other file is whole. [SUMS-5]"""
ESCAPES: Final = {b"\\": rb"\\", b"\n": rb"\n", b"\r": rb"\r"}
"""Byte = how it is written. [SUMS-2]"""


def sha256_of(content: bytes) -> bytes:
    """Return the SHA-256 of a file's content, as 64 lower-case hex digits. [SUMS-1]"""
    return hashlib.sha256(content).hexdigest().encode("ascii")


def render_checksum_line(path: bytes, sha256: bytes) -> bytes:
    """Render one line. [SUMS-1]"""
    # [SUMS-2] The backslash first: the escapes of the others hold one.
    written = path
    for byte, escape in ESCAPES.items():
        written = written.replace(byte, escape)
    mark = b"\\" if written != path else b""
    return mark + sha256 + b"  " + written + b"\n"
