"""The harmonic mean of the field's tables, in a module of its own that needs no torch."""


def harmonic_mean(base: float, new: float) -> float:
    """`2 * base * new / (base + new)`; 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0
