"""Describes differences, with the bytes around them."""

from dataclasses import dataclass, replace
from typing import Final

from ekvconform.cases.snapshots import render_bytes

WINDOW: Final = 16
"""Bytes on a line."""
MAX_TEXT: Final = 2000
"""Longest text of what was expected or found, in characters."""
MAX_SHOWN: Final = 160
"""Bytes that are shown of a file that only one side has."""
SCENE: Final = "scene"
"""Aspect of what keeps a case from being judged at all."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs from what is expected."""

    aspect: str
    """One of `aspects.ASPECTS`, or `SCENE`."""
    place: str
    """What was compared: a path, "exit status", "fault" .."""
    expected: str
    found: str
    form: str = ""
    """What differs, in a few words without paths or numbers of the case: the same for one cause in many cases."""
    clause: str = ""
    """The broken clause; empty for the clauses of the case."""
    bytes_: tuple[str, ...] = ()
    """The differing bytes, annotated, a line each."""

    def cut(self) -> "Difference":
        """Return it with texts cut to `MAX_TEXT`."""
        return replace(self, expected=_cut(self.expected), found=_cut(self.found))

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, found {self.found}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} and {len(text) - MAX_TEXT} characters more"


def differing_bytes(expected: bytes, found: bytes) -> tuple[str, ...]:
    """Render the bytes around the first difference of two files or lines."""
    first = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    if first is None:
        first = min(len(expected), len(found))
    start = first - first % WINDOW
    rows = [_row("expected", expected, start), _row("found", found, start)]
    marks = [" " * 2 if _at(expected, i) == _at(found, i) else "^^" for i in range(start, start + WINDOW)]
    rows.append(f"{'':8}  {'':6}  {' '.join(marks).rstrip()}  byte {first} is the first that differs")
    return tuple(rows)


def first_differing_line(expected: bytes, found: bytes) -> tuple[int, bytes | None, bytes | None]:
    """Return the number of the first line that differs, from 1, and both lines; None for one that is not there."""
    rows, others = expected.splitlines(keepends=True), found.splitlines(keepends=True)
    number = next(
        (i for i, (a, b) in enumerate(zip(rows, others, strict=False)) if a != b), min(len(rows), len(others))
    )
    return (
        number + 1,
        rows[number] if number < len(rows) else None,
        others[number] if number < len(others) else None,
    )


def shown_line(line: bytes | None) -> str:
    """Summarize a line, or say that it is not there."""
    return "no such line" if line is None else shown(line)


def _at(data: bytes, place: int) -> int | None:
    return data[place] if place < len(data) else None


def _row(words: str, data: bytes, start: int) -> str:
    window = data[start : start + WINDOW]
    text = f"`{render_bytes(window)}`" if window else "nothing"
    return f"{words:8}  {start:>6}  {window.hex(' ').upper():<{3 * WINDOW - 1}}  {text}"


def shown(data: bytes) -> str:
    """Summarize the content of a file."""
    if not data:
        return "an empty file"
    left = len(data) - MAX_SHOWN
    more = f" and {left} byte{'' if left == 1 else 's'} more" if left > 0 else ""
    return f"{len(data)} byte{'' if len(data) == 1 else 's'} `{render_bytes(data[:MAX_SHOWN])}`{more}"
