"""Renders verdicts for people and for machines. Decides nothing."""
