"""Tools for developers: the work of scripts/tools/, and what the benchmark compares with."""
