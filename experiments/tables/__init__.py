"""Tables: of the records of finished runs, and of the runs of a command."""
