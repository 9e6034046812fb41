"""The core: prompt tokens entering any layer of either tower of a frozen CLIP. Needs torch and `clip` alone.

interaction.py     BMIP's maths, pure functions
prompted_clip.py   runs an unmodified CLIP with a learner's prompts
learner.py         what a learner answers: which tokens enter layer i of which tower
bmip.py            BMIP's learner, and the authors' checkpoint layout
class_tokens.py    class names to token sequences
clip_io.py         weights and precision
"""
