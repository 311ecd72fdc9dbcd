"""Many runs of one case, each disturbed in another way, and the probing of an unknown program."""
