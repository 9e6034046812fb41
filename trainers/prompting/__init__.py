"""The core: prompt tokens entering any layer of either tower of a frozen CLIP. Needs torch and `clip` alone.

prompted_clip.py   runs an unmodified CLIP with a learner's prompts
tower.py           the driver of both towers; attention.py, class_groups.py: what it computes, and at once
learner.py         what a learner answers: which tokens enter layer i of which tower
bmip.py            BMIP's learner; interaction.py: its maths, pure functions
coop.py, cocoop.py, ivlp.py, maple.py   the baselines' learners
released.py        checkpoints that the methods' authors published
class_tokens.py    class names to token sequences
clip_io.py         weights and precision
metrics.py         open-world metrics
summary.py         what a method trains
"""
