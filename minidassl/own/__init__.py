"""The project's own engine, which the trainers use on upstream Dassl, too.

Atomic writes, the checkpoints of a run, exact resuming, safe reading of foreign checkpoints, optimisers and schedules
from plain settings; for the stand-in's loaders, an image cache and persistent workers. `files` and `run_folder`
need Python's standard library only.
"""
