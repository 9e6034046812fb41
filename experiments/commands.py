"""Common parts of the command lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from trainers.prompting.errors import InputError


def make_parser(description: str, usage: str | None = None) -> argparse.ArgumentParser:
    """With `--import`, whose modules `methods.import_modules` takes."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(usage=usage, description=description, formatter_class=form)
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python module with trainers or objectives of yours",
    )
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")


def import_flags(modules: list[str]) -> list[str]:
    """The flags of train.py for `--import`."""
    return [word for module in modules for word in ("--import", module)]


def exit_status(work: Callable[[], int]) -> int:
    """The exit status of a command: its own, 2 for wrong input, 130 when interrupted."""
    try:
        return work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130
