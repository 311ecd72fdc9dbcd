"""ekvconform: judge any decoder program by the fixtures of the format.

Knows nothing of the reference decoder, which is one program among others to it:
`writer` makes snapshots, `cases` reads fixtures, `sandbox` runs a program, `verdicts`
says what came of it, `cli` is the command.
"""
