"""From a snapshot file to the outputs of one run."""
