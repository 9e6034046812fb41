"""Common parts of the command lines."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable

from minidassl.own.jobs.errors import JobsError
from minidassl.own.text import printable

from trainers.prompting.errors import InputError, disk_error

# Not their list: the declarations come with torch, and help is to come at once.
METHODS_HELP = "names of docs/METHODS.md, such as 'MaPLe BMIP', with :VARIANT for a variant of a recipe"

DATASETS_HELP = "names of files in configs/datasets, or registered ones"


def make_parser(description: str, usage: str | None = None) -> argparse.ArgumentParser:
    """With `--import`, whose modules `exit_status` imports. Paragraphs of prose are wrapped, other lines stay."""
    form = argparse.RawDescriptionHelpFormatter
    parts = description.split("\n\n")
    description = "\n\n".join(part if "\n " in f"\n{part}" else textwrap.fill(part, 80) for part in parts)
    parser = argparse.ArgumentParser(usage=usage, description=description, formatter_class=form)
    add_import(parser)
    return parser


def add_import(parser: argparse.ArgumentParser) -> None:
    text = (
        "module with objectives or methods of yours, or the path of its file (docs/CONTRIBUTING.md): METHOD:OBJECTIVE "
        "is a method trained by your objective"
    )
    parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE", help=text)


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")


def add_shots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shots", type=int, default=16, help="training images of a class (16); -1 for all")


def add_tag(parser: argparse.ArgumentParser) -> None:
    text = "name of an experiment with other settings (KEY VALUE pairs): it gets folders and rows of its own"
    parser.add_argument("--tag", default="", metavar="NAME", help=text)


def add_backbone(parser: argparse.ArgumentParser) -> None:
    text = "another CLIP than that of the recipes (docs/BACKBONES.md): it gets folders and rows of its own"
    parser.add_argument("--backbone", metavar="NAME", type=absolute_backbone, help=text)


def absolute_backbone(name: str) -> str:
    """A backbone's name, in which a path is absolute: train.py runs in the repository's folder."""
    opening, colon, rest = name.rpartition(":")
    # After "open_clip:", an architecture comes before the path.
    architecture, slash, path = rest.partition("/") if opening == "open_clip" else ("", "", rest)
    path = os.path.expanduser(path)
    path = os.path.abspath(path) if os.path.exists(path) else path
    return f"{opening}{colon}{architecture}{slash}{path}"


def backbone_flags(backbone: str | None) -> list[str]:
    """The flags of train.py for `--backbone`."""
    return ["--backbone", backbone] if backbone else []


# The flags of `--import` of this process, for commands that it prints.
IMPORTED: list[str] = []


def import_flags(modules: list[str]) -> list[str]:
    """The flags of train.py for `--import`; it runs in the repository's folder, so paths of files are absolute."""
    paths = (os.path.abspath(os.path.expanduser(module)) if module.endswith(".py") else module for module in modules)
    return [word for path in paths for word in ("--import", path)]


def exit_status(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Import the modules of `--import` and do the work; gives its exit status, 2 for wrong input, 130 on interrupt."""
    IMPORTED[:] = import_flags(args.modules)
    try:
        if args.modules:
            # Dassl's registry takes seconds to import, and only this needs it.
            import trainers
            from trainers.prompting.methods import import_own

            trainers.register_all()
            for module in args.modules:
                import_own(module)
        return work(args)
    except (InputError, JobsError, OSError) as error:
        text = disk_error(error, "The disk") if isinstance(error, OSError) else str(error)
        print(f"error: {printable(text)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from what is done.", file=sys.stderr)
        return 130
