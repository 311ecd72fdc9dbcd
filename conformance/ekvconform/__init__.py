"""Judge any decoder program by the golden cases of the format.

The sub-packages are stages; each imports only itself and those above it:

    cases       the suite as data, and how it is written
    run         profiles of programs, and a run in a sandbox
    judge       comparison and verdicts; many runs at once
    campaigns   races, faults, and the inference of a profile
    report      terminal, JSONL, JUnit, Markdown, HTML

`cli` and `pytest_plugin` use them all. Nothing here knows a decoder.
"""
