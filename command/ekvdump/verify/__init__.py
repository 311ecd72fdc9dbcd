"""A dump compared with what its own files say."""
