"""Published averages, to stand beside our own and never in their place.

Over the eleven data sets of base-to-new, 16 shots, ViT-B/16, as printed in the READMEs of MaPLe, PromptSRC and
CoPrompt and, for BMIP, of its authors, and in Table 5 of BMIP's paper.
"""

from __future__ import annotations

from trainers.prompting.core.metrics import harmonic_mean

# Base, new and harmonic mean; the last two are no methods here.
AVERAGES = {
    "ZeroshotCLIP": (69.34, 74.22, 71.70),
    "CoOp": (82.69, 63.22, 71.66),
    "CoCoOp": (80.47, 71.69, 75.83),
    "VPT": (80.24, 73.43, 76.68),
    "LanguagePrompting": (81.72, 73.81, 77.56),
    "IVLP": (82.15, 74.07, 77.90),
    "MaPLe": (82.28, 75.14, 78.55),
    "BMIP": (83.47, 76.69, 79.04),
    "PromptSRC": (84.26, 76.10, 79.97),
    "CoPrompt": (84.00, 77.23, 80.48),
    "ProDA": (81.56, 75.83, 76.65),
    "IVLP 4+4, depth 9": (84.21, 71.79, 77.51),
}
# Harmonic mean alone.
ABLATION = {"BMIP": AVERAGES["BMIP"][2:], "BMIP, addition": (78.40,)}
# Beyond what rounding explains.
REMARKS = {
    name: f"the printed HM of {name}, {printed:.2f}, is not that of its base and new accuracy, which is {mean:.2f}"
    for name, (base, new, printed) in AVERAGES.items()
    if abs((mean := harmonic_mean(base, new)) - printed) > 0.02
}
