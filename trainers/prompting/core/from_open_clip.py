"""CLIPs of open_clip."""

PREFIX = "open_clip:"
