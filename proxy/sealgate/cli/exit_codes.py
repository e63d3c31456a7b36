"""The exit codes that every command shares."""

DONE = 0
"""The command succeeded, and what it checked holds."""
NOT_SO = 1
"""The command failed at its work, or what it checked does not hold."""
BAD_USAGE = 2
"""The command line, the configuration or a document is not valid, or no input was found: nothing was checked."""
INTERRUPTED = 130
"""The user pressed Ctrl-C."""
