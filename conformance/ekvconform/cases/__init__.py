"""The suite as data: cases, snapshots, clauses and tolerances, and the words that they are written in. Runs nothing."""
