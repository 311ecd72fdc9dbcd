"""ekvdump: decode an elastickv snapshot into a logical dump.

One module per chapter of the spec, in its order: conventions, snapshot_file,
visibility, keys, redis_strings, redis_hlls, redis_ttls, segments, tree, keymap,
manifest, checksums, outcomes, salvage, verification.

What puts them in a row has no chapter: `survey` (the first pass), `outputs` (the
second), `decode` (one run). `folders` and `sorting` are what `tree` and
`verification` stand on. `inspection` looks without writing; `cli`, `reports` and
`progress` are the command.
"""

from typing import Final

__version__: Final = "0.1.0"
