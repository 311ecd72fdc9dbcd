"""ekvdump: decode an elastickv snapshot into a logical dump.

One module per chapter of the spec, in its order: conventions, snapshot_file,
visibility, keys, redis_strings, redis_hlls, redis_ttls, segments, tree, keymap,
manifest, checksums, outcomes. `survey` and `decode` put them in a row; `cli` is
the command.
"""

from typing import Final

__version__: Final = "0.1.0"
