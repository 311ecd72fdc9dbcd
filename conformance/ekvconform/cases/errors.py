"""The error that is the caller's to correct."""


class UsageError(Exception):
    """Raised for input of the caller that is not usable; says what and why."""
