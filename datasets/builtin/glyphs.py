"""The tables of `glyphs.yaml`: ordered mappings from class name to character."""

from __future__ import annotations

from pathlib import Path

import yaml

_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
DIGITS, SYMBOLS, OTHERS = (_TABLES[name] for name in ("digits", "symbols", "others"))
