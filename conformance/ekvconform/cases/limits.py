"""Resource limits of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a run."""

    seconds: float = 20.0
    """Of processor time, or of waiting without any; see `run/time_limit.py`."""
    memory_mib: float = 1024
    """Private resident memory of the program and all its descendants, sampled every `SAMPLE_MS`."""
    files_mib: float = 1024
    """Total size of files below OUT and TMPDIR."""

    def but(self, words: Mapping[str, Any]) -> "Limits":
        """Return these limits with some of them replaced. Raises `ValueError`."""
        names = [each.name for each in fields(Limits)]
        for name, value in words.items():
            if name not in names:
                raise ValueError(f"limits: {name} is not one of {', '.join(names)}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"limits.{name}: must be a positive number, not {value!r}")
        return replace(self, **words)
