"""Explains how the blob of a collection differs from the expected one, in words that many cases share."""

import json
from collections.abc import Sequence
from typing import Any, Final

from ekvconform.cases.contents import DELETED, EXPIRED, FUTURE, HISTORY, SHAPES, VISIBLE, Content
from ekvconform.judge.aspects import EXPIRIES, FILES, PAYLOADS

TYPES: Final = {"hashes": "hash", "lists": "list", "sets": "set", "zsets": "zset", "streams": "stream"}
"""Directory of blobs = the type of collections that are shown there."""
CLAUSES: Final = {"hash": "RHAS-3", "list": "RLIS-7", "set": "RSET-3", "zset": "RZSE-5", "stream": "RSTM-9"}
"""Type = the clause that asks for its blobs."""
ORDERS: Final = {"hash": "COLL-21", "list": "RLIS-5", "set": "COLL-21", "zset": "COLL-21", "stream": "RSTM-3"}
"""Type = the clause of the order of its elements."""
ABOVE: Final = ("string", "bare", "hll")
"""Types that shadow every collection. [TYPE-4]"""

Explained = tuple[str, str, str]
"""Aspect, form and clause of a difference."""


def is_shadowed(record: Content, contents: Sequence[Content]) -> bool:
    """Return True for a record of a collection whose user key is a string or an HLL."""
    above = (content for content in contents if content.type in ABOVE and content.fate == VISIBLE)
    return record.type in CLAUSES and any(content.user_key == record.user_key for content in above)


def why_missing(type_: str, own: Sequence[Content]) -> Explained:
    """Explain a blob that is missing; `own` are the entries of its user key."""
    kinds = {kind for kind, content in _records(type_, own) if content.fate == VISIBLE}
    layout = "packed " if "packed" in kinds and "element" not in kinds else ""
    return FILES, f"missing: {layout}{type_}", "COLL-6" if layout else CLAUSES[type_]


def why_shown(type_: str, own: Sequence[Content]) -> Explained:
    """Explain a blob that must not exist."""
    visible = {content.type for content in own if content.fate == VISIBLE}
    fates = {content.fate for _, content in _records(type_, own)}
    if visible & {*ABOVE}:
        return FILES, f"shown: a shadowed {type_}", "TYPE-5"
    if type_ not in visible:
        for fate, words, clause in (
            (DELETED, "deleted", "VISI-12"), (EXPIRED, "expired", "VISI-13"), (FUTURE, "later", "VISI-14"),
        ):  # fmt: skip
            if fate in fates:
                return FILES, f"shown: a {type_} of {words} records", clause
    if len(visible & {*CLAUSES}) > 1:
        return FILES, f"shown: a shadowed {type_}", "TYPE-5"
    return FILES, f"shown: a {type_} that does not exist, or is not wanted", "TYPE-6"


def why_other(type_: str, expected: bytes, found: bytes, own: Sequence[Content]) -> Explained:
    """Explain a blob with other bytes."""
    try:
        (elements, end), (others, other_end) = _parsed(type_, expected), _parsed(type_, found)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return PAYLOADS, f"of a {type_}: not the JSON that it should be", "COLL-18"
    texts, other_texts = sorted(map(_text, elements)), sorted(map(_text, others))
    if texts != other_texts:
        return PAYLOADS, *_why_elements(type_, texts, other_texts, own)
    if elements != others:
        return PAYLOADS, f"elements of a {type_} in another order", ORDERS[type_]
    if end.get("expire_at_ms") != other_end.get("expire_at_ms"):
        has_field = any(kind == "meta" and len(content.body) in (16, 32, 48) for kind, content in _records(type_, own))
        return EXPIRIES, f"another expiry: of a {type_}", "COLL-4" if has_field else "COLL-5"
    if end != other_end:
        return PAYLOADS, f"of a {type_}: other members beside its elements", CLAUSES[type_]
    return PAYLOADS, f"of a {type_}: written otherwise", "RSTM-8" if type_ == "stream" else "COLL-18"


def _why_elements(type_: str, texts: list[str], others: list[str], own: Sequence[Content]) -> tuple[str, str]:
    """Return form and clause of other elements."""
    more = "\n".join(text for text in others if text not in texts)
    for fate, words, clause in (
        (DELETED, "of deleted records", "VISI-12"), (EXPIRED, "of expired records", "VISI-13"),
        (FUTURE, "of versions above the last commit", "VISI-14"), (HISTORY, "of older versions", "VISI-11"),
    ):  # fmt: skip
        for kind, content in _records(type_, own):
            # A tombstone has no body to be known by, and a member stands in no body at all.
            told = content.suffix if fate == DELETED or type_ in ("set", "zset") else content.body
            if kind == "element" and content.fate == fate and told and _text(_read(told)) in more:
                return f"elements {words}", clause
    if len(texts) != len(others):
        return f"elements of a {type_} {'missing' if len(texts) > len(others) else 'too many'}", CLAUSES[type_]
    return f"other elements of a {type_}", CLAUSES[type_]


def _records(type_: str, own: Sequence[Content]) -> list[tuple[str, Content]]:
    """Return kind and entry of the records of a type."""
    return [(SHAPES[content.prefix]["kind"], content) for content in own if content.type == type_]


def _parsed(type_: str, blob: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Return the elements, and what stands beside them."""
    if type_ == "stream":
        *lines, end = map(_loads, blob.splitlines())
        return lines, end
    document = _loads(blob)
    return document["fields" if type_ == "hash" else "items" if type_ == "list" else "members"], {
        name: value for name, value in document.items() if not isinstance(value, list)
    }


def _loads(text: bytes) -> Any:
    # Numbers as they are written: 1 and 1.0 are two scores. [RZSE-6]
    return json.loads(text, parse_float=str, parse_int=str)


def _read(data: bytes) -> Any:
    return data.decode("utf-8", "replace")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
