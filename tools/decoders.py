"""The decoders of this repository, as their profiles in `conformance/profiles/` describe them."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from ekvconform.run.profiles import load_profile

PROFILES: Final = Path(__file__).resolve().parent.parent / "conformance" / "profiles"
COMMAND: Final = load_profile(PROFILES / "command.toml").located()
COMMAND_THAT_FLUSHES: Final = replace(COMMAND, command=tuple(word for word in COMMAND.command if word != "--no-sync"))
"""Flushes what it writes, as it does for its users."""
JUDGE_COMMAND: Final = ("--profile", str(PROFILES / "command.toml"))
"""Words of `ekvconform` that name the command."""
