"""What the command and the judge print alike: clauses of the spec, and snapshots as annotated hex.

It explains bytes and judges nothing: what cannot be read is shown as it is. It imports
nothing of the decoders or of the judge.
"""
