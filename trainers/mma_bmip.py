"""BMIP stacked with MMA: its prompts, and adapters beside the upper blocks of both towers."""

from .base import register
from .bmip import BMIP
from .prompting.learners import mma_bmip


@register
class MMA_BMIP(BMIP):
    method = mma_bmip.METHOD
