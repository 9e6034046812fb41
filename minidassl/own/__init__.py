"""The project's own engine, which upstream lacks and which the trainers use on upstream too.

Files that are written whole, the checkpoints of a run, exact resuming, safe reading of foreign checkpoints, optimisers
and schedules from plain settings; and for the stand-in's loaders, images in memory and workers that are kept. `files`,
`run_folder` and `optim_defaults` need Python's own library only.
"""
