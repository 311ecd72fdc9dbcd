"""Hypothesis profiles: `quick` for `make test`, `short` for wrong decoders, `deep` for a long search."""

import os

from hypothesis import settings

# Programs that the tests start buffer what they print, as they do for a user.
os.environ.pop("PYTHONUNBUFFERED", None)

# The quick profile tries the same examples on every run, so that a red run is red again; no test is timed.
settings.register_profile("quick", deadline=None, derandomize=True, print_blob=True)
# For a decoder that is wrong on purpose, which tests of every kind are to notice.
settings.register_profile("short", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("deep", deadline=None, max_examples=2000, print_blob=True)
