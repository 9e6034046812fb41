"""Experiments with the methods: protocols, their runs, the records of these, tables and reports."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
