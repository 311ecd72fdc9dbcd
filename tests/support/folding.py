"""A file system that folds case: two names that differ only in case are one; the first spelling stays."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest


def fold(name: str, directory: int | str) -> str:
    """Return the name under which a directory has a file already, or the name itself."""
    return next((each for each in os.listdir(directory) if each.casefold() == name.casefold()), name)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make names below every directory handle, and paths, as such a file system has them."""

    def one(real: Callable[..., Any], *arguments: Any, dir_fd: int | None = None, **words: Any) -> Any:
        name, *rest = arguments
        if dir_fd is not None:
            return real(fold(name, dir_fd), *rest, dir_fd=dir_fd, **words)
        return real(fold_path(name), *rest, **words)

    def two(
        real: Callable[..., Any], source: str, target: str, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> Any:
        if dst_dir_fd is None:
            return real(fold_path(source), fold_path(target))
        names = fold(source, src_dir_fd or dst_dir_fd), fold(target, dst_dir_fd)
        return real(*names, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def fold_path(path: Any) -> Any:
        above, name = os.path.split(path) if isinstance(path, str) else ("", "")
        return os.path.join(above, fold(name, above)) if above and name and os.path.isdir(above) else path

    def link(real: Callable[..., Any], source: str, target: str, *, dst_dir_fd: int, follow_symlinks: bool) -> Any:
        return real(source, fold(target, dst_dir_fd), dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", partial(link, os.link))
    for folded, names in ((one, ("open", "stat", "lstat", "unlink", "mkdir")), (two, ("rename", "replace"))):
        for name in names:
            monkeypatch.setattr(os, name, partial(folded, getattr(os, name)))
