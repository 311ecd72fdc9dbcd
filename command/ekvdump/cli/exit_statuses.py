"""Exit statuses of the command, a closed list. [OUTC-6]

A module without imports, so that `--version` need not wait for the rest of chapter OUTC.
"""

from typing import Final

EXIT_COMPLETE: Final = 0
"""A complete dump."""
EXIT_FINDINGS: Final = 1
"""A command that compares found something."""
EXIT_USAGE: Final = 2
"""The command line makes no sense."""
EXIT_PARTIAL: Final = 3
"""A whole tree, but not everything in the snapshot is shown."""
EXIT_SNAPSHOT_REFUSED: Final = 4
"""Something is wrong with the snapshot."""
EXIT_TREE_REFUSED: Final = 5
"""Something is wrong with what lies in the output folder."""
EXIT_DISK_FULL: Final = 6
"""No space or quota left."""
EXIT_IO_ERROR: Final = 7
"""Any other failure of the file system."""
EXIT_INTERRUPTED: Final = 130
"""Stopped by the user."""
