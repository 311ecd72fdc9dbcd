"""The decoders of this repository, as programs that `ekvconform` judges."""

import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from ekvconform.profiles import Profile, make_profile

PROFILES: Final = Path(__file__).resolve().parents[2] / "conformance" / "profiles"


@cache
def load_profile_named(name: str) -> Profile:
    """Return the profile `reference` or `command`."""
    words: dict[str, Any] = tomllib.loads((PROFILES / f"{name}.toml").read_text(encoding="utf-8"))
    for member in ("command", "verify"):
        if member in words:
            words[member] = [sys.executable if word == "{python}" else word for word in words[member]]
    return make_profile(words)


def that_flushes(profile: Profile) -> Profile:
    """Return the same decoder without the option that switches the flush to disk off. [TREE-21]"""
    return replace(profile, command=tuple(word for word in profile.command if word != "--no-sync"))
