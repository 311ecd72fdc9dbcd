"""Compares what a run left with what its case expects, and gives a verdict."""
