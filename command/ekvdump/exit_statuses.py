"""Exit statuses of the command, a closed list. [OUTC-7]

This module imports nothing, so that `--version` starts fast.
"""

from typing import Final

EXIT_COMPLETE: Final = 0
"""A complete dump."""
EXIT_FINDINGS: Final = 1
"""`verify` found something."""
EXIT_USAGE: Final = 2
"""The command line is invalid."""
EXIT_PARTIAL: Final = 3
"""A whole dump that does not show everything in the snapshot."""
EXIT_SNAPSHOT_REFUSED: Final = 4
"""The snapshot is refused."""
EXIT_TREE_REFUSED: Final = 5
"""The contents of the output directory are refused."""
EXIT_DISK_FULL: Final = 6
"""No space or quota left."""
EXIT_IO_ERROR: Final = 7
"""Any other failure of the file system."""
EXIT_INTERRUPTED: Final = 130
"""Stopped by a signal."""
