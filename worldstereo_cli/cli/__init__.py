"""The door: arguments in, one line out, exit codes."""
