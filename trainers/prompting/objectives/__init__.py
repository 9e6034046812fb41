"""One file per objective: its settings, its loss, and the methods named after it."""
