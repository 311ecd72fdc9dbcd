"""How a program is described, and how it is run once in a sandbox. Judges nothing."""
