"""Directories and files: safe calls, the dump tree, and sorting on disk."""
