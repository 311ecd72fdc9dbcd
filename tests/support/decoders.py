"""The decoders of this repository, as programs that `ekvconform` judges."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from ekvconform.run.profiles import Profile, load_profile

PROFILES: Final = Path(__file__).resolve().parents[2] / "conformance" / "profiles"


def that_flushes(profile: Profile) -> Profile:
    """Return the same decoder without the option that switches the flush to disk off. [SAFE-22]"""
    return replace(profile, command=tuple(word for word in profile.command if word != "--no-sync"))


REFERENCE: Final = load_profile(PROFILES / "reference.toml").located()
"""`python -m ekvformat`."""
COMMAND: Final = load_profile(PROFILES / "command.toml").located()
"""`ekvdump`, as its users run it, but without the flush."""
COMMAND_THAT_FLUSHES: Final = that_flushes(COMMAND)
"""The same, where a program is to be held at its flush too."""
JUDGE_COMMAND: Final = ("--profile", str(PROFILES / "command.toml"))
"""Words of `ekvconform` that name the command."""
