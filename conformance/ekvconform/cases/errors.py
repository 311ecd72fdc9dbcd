"""What a caller may get wrong."""


class UsageError(Exception):
    """Something that the caller gave cannot be used; says what and why."""
