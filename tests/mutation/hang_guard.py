"""A test that hangs fails, by itself: a plugin of pytest for `generated_mutants.py`."""

import signal
from collections.abc import Iterator
from typing import Final, NoReturn

import pytest

LIMIT_SECONDS: Final = 20.0
"""Of processor time, of one test."""


class HangError(BaseException):
    """Passes through what deals with exceptions."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Let a test fail that computes for too long."""

    def end(*_: object) -> NoReturn:
        raise HangError(f"{item.nodeid} hangs")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
