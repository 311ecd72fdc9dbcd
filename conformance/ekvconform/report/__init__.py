"""Renders verdicts, for terminals, CI and other programs. Decides nothing."""
