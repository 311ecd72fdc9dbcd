"""What becomes of unreadable values with the caller's consent. Implements spec chapter SALV.

    unreadable.jsonl                   one line for each unreadable record
    unreadable/<segment>.<kind>.bin    its body, whole and unchanged

A line [SALV-6]:

    {"segment":..,"storage_key":..,"offset":..,"clause":..,"kind":..} LF
"""

from typing import Final

from ekvformat.keys import COLLECTIONS
from ekvformat.segments import encode_base64url

UNREADABLE_NAME: Final = "unreadable.jsonl"
"""The sidecar that lists what could not be read. [SALV-6]"""
UNREADABLE_DIRECTORY: Final = "unreadable"
"""Where the bodies are. [SALV-7]"""
STRING_KIND: Final = "string"
"""Of a prefixed or bare string. [SALV-6]"""
HLL_KIND: Final = "hll"
TTL_KIND: Final = "ttl"
KINDS: Final = (STRING_KIND, HLL_KIND, *COLLECTIONS, TTL_KIND)
"""All kinds of unreadable records; the kind of a collection is its type. [SALV-6]"""
MAX_UNREADABLE_EXAMPLES: Final = 16
"""Most segments that the warning shows. [SALV-9]"""


def render_unreadable_line(segment: str, storage_key: bytes, offset: int, clause: str, kind: str) -> bytes:
    """Render a line of `unreadable.jsonl`. [SALV-6]

    `offset` is where the fault would be, in bytes from the start of the snapshot.
    """
    key = encode_base64url(storage_key)
    members = f'"segment":"{segment}","storage_key":"{key}","offset":{offset},"clause":"{clause}","kind":"{kind}"'
    return f"{{{members}}}\n".encode("ascii")
