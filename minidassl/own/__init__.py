"""The project's own engine, which its trainers use on upstream Dassl too: checkpoints, schedules, safe reading."""
