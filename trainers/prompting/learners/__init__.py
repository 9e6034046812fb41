"""One file per method: its settings, its learner, the published layout of its checkpoints, and its `METHOD`."""
