"""Variants and combinations of methods that have tables of their own, by the variants of their recipes."""

from __future__ import annotations

from collections.abc import Iterable

from ..methods import row_name

CONTROL = "IVLP_BMIP_size"
ABLATIONS = (
    *("addition", "attention", "joint", "none", "l2v", "v2l", "released", "unshared"),
    *("relative_gate", "constant_gate", "shuffled_gate"),
)
# Of twelve layers, and of the small CLIP's four.
DEPTHS, SMALL_DEPTHS = ("depth3", "depth6", "depth12"), ("depth1", "depth2", "depth4")
LENGTHS = ("length1", "length4", "length8")
# The learners of the table of combinations, their objectives, and methods that are such a combination by name.
COMBINED = ("IVLP", "MaPLe", "BMIP")
OBJECTIVES = ("self_regulation", "consistency")
STACKED = ("PromptSRC", "CoPrompt", "PromptSRC_BMIP", "CoPrompt_BMIP")
# Methods of another name than those with which they are compared, seed by seed.
REFERENCES = {CONTROL: "BMIP", "PromptSRC_BMIP": "PromptSRC", "CoPrompt_BMIP": "CoPrompt"}


def methods(name: str, variants: Iterable[str]) -> tuple[str, ...]:
    """METHOD and METHOD:VARIANT of each."""
    return name, *(f"{name}:{variant}" for variant in variants)


def rows(names: Iterable[str]) -> list[str]:
    """The rows of METHOD or METHOD:VARIANT."""
    return [row_name(*name.split(":")) for name in names]


COMBINATIONS = (*(name for method in COMBINED for name in methods(method, OBJECTIVES)), *STACKED)
# Rows that the table of open world leaves out.
ELSEWHERE = {
    row
    for row in rows((*methods("BMIP", (*ABLATIONS, *DEPTHS, *SMALL_DEPTHS, *LENGTHS)), *COMBINATIONS))
    if ", " in row
}
