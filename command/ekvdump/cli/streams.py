"""Standard output and standard error: closed, full, redirected, or terminals."""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def prepare_streams() -> None:
    """Make both streams usable, whatever the caller has done to them."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The caller closed it. The next file that is opened must not take its descriptor.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            # A character that a terminal cannot show is printed escaped.
            stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Discard everything that is still buffered or printed to a stream."""
    with suppress(OSError):  # a stream of the caller's own may have no descriptor
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def is_terminal(stream: TextIO) -> bool:
    """Return True for a terminal on which colours and progress can be shown: that needs the extra `terminal`."""
    return stream.isatty() and find_spec("rich") is not None


def console_of(stream: TextIO) -> "Console":
    """Return a console that shows colours and progress on a terminal."""
    from rich.console import Console

    return Console(file=stream)
