"""Run a script on the stand-in, even with upstream installed.

usage: python -m minidassl CHECKOUT/train.py ARGUMENTS

As under plain `python`, the script's folder comes first on the import path and the working directory stays, so a
checkout finds its own `datasets`, `trainers` and `clip`.
"""

from __future__ import annotations

import os
import runpy
import sys

import minidassl


def main(arguments: list[str]) -> None:
    if arguments[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return
    if not arguments or not os.path.isfile(arguments[0]):
        got = f"{arguments[0]} is no file" if arguments else "no script is named"
        sys.exit(f"error: {got}; usage: python -m minidassl SCRIPT.py [ARGUMENTS]")
    print(minidassl.answer())
    script = os.path.abspath(arguments[0])
    sys.argv = arguments
    # `python -m` has put the working directory there.
    sys.path[0] = os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
