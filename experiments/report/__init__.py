"""One self-contained HTML page of a results folder: tables, figures, configurations, and their commands."""

from .command import main, print_report

__all__ = ["main", "print_report"]
