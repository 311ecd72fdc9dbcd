"""The command line: arguments, signals, messages and exit statuses."""
