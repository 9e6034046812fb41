"""The project's own engine, which the trainers use on upstream Dassl, too.

Atomic writes, the checkpoints of a run, exact resuming, safe reading of foreign checkpoints, optimisers and schedules
from plain settings; for the stand-in's loaders, an image cache and persistent workers. `files`, `run_folder` and
`optim_defaults` need Python's standard library only.
"""
