"""What a program may use."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    seconds: float = 20.0
    """Of processor time, or of waiting without any; see `run/time_limit.py`."""
    memory_mib: float = 1024
    """Private resident memory of the program and all its descendants, sampled every `SAMPLE_MS`."""
    files_mib: float = 1024
    """Everything below OUT and TMPDIR."""

    def but(self, words: Mapping[str, Any]) -> "Limits":
        """Return the same with some members given. Raises `ValueError`."""
        names = [each.name for each in fields(Limits)]
        for name, value in words.items():
            if name not in names:
                raise ValueError(f"limits: {name} is none of {', '.join(names)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"limits.{name}: a number above 0 is needed, found {value!r}")
        return replace(self, **words)
