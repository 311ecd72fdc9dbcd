"""Hypothesis profiles: `quick` for `make test`, `deep` for a long search. What `--cov` measures."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Programs that the tests start buffer what they print, as they do for a user.
os.environ.pop("PYTHONUNBUFFERED", None)

# The quick profile tries the same examples on every run, so that a red run is red again; no test is timed.
settings.register_profile("quick", deadline=None, derandomize=True, print_blob=True)
# For a decoder that is wrong on purpose, which tests of every kind are to notice.
settings.register_profile("short", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("deep", deadline=None, max_examples=2000, print_blob=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure nothing of tests marked `unmeasured`, which takes half the time; others show that all is covered."""
    tracer = sys.gettrace()
    if tracer is None or item.get_closest_marker("unmeasured") is None:
        return (yield)
    # The marker of pytest-cov stops its own tracer, and leaves those of a worker of pytest-xdist.
    told = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
        if told is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = told
