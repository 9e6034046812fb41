"""The project's own engine, which the trainers use on upstream Dassl, too.

Atomic writes, the checkpoints of a run, exact resuming, safe reading of foreign checkpoints, optimisers and schedules
from plain settings, the lock of a run's folder, text that is safe to show; jobs on the devices of one or many hosts
(`jobs`); for the stand-in's loaders, an image cache and persistent workers. `files`, `processes`, `run_folder`,
`run_lock` and `text` need Python's standard library only.
"""
