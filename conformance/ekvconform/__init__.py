"""ekvconform: judge any decoder program by the fixtures of the format.

Knows nothing of the reference decoder, which is one program among others to it.

    writer, snapshots           make snapshots
    cases, suite, bundle        read fixtures; their version; the same as plain files
    profiles, known, probing    what is known of a program, and how it is found out
    sandbox, running            run a program in folders of its own, many at once
    trees, tolerances,          compare what lies in OUT with what has to; say what came
    verdicts, differences       of it
    holding, stepping           hold a program at its file calls, and rearrange the tree
    rows, reports, page,        tell it
    terminal, pytest_plugin
    cli                         the command
"""
