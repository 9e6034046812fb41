"""One file an objective: its settings, its loss, and its declaration."""
