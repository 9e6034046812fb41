"""Tables of the documentation that are made of the declarations: methods, objectives, configuration keys.

    python scripts/tools/describe.py            # print all
    python scripts/tools/describe.py --write    # rewrite them in README.md and docs/

A document marks the place of a table by `<!-- describe NAME -->` and `<!-- end -->` on lines of their own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the tables in README.md and docs/")
    args = parser.parse_args(argv)
    from experiments.tools import describe  # here, because it imports torch

    if args.write:
        describe.rewrite()
    else:
        print("\n\n".join(make() for make in describe.TABLES.values()))


if __name__ == "__main__":
    main()
