"""The confusions of tests that saved their logits (TEST.SAVE_LOGITS True), the most frequent first.

python scripts/tools/confusions.py FOLDER [FOLDER ...]    # of runs, which have logits.npz and result.json
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def confusions(folder: Path) -> Counter[tuple[str, str]]:
    """Images of the first class of each pair that were taken for the second.

    Raises:
        InputError: a folder without saved logits.
    """
    import numpy as np

    from trainers.prompting.errors import InputError
    from trainers.records import LOGITS, read_result

    record = read_result(folder)
    if record is None or not (folder / LOGITS).is_file():
        raise InputError(f"{folder} has no {LOGITS} of a test; run the test with TEST.SAVE_LOGITS True.")
    with np.load(folder / LOGITS, allow_pickle=False) as saved:
        pairs = zip(saved["labels"].tolist(), saved["logits"].argmax(axis=1).tolist())
    names = [one["name"] for one in record["per_class"]]
    return Counter((names[label], names[found]) for label, found in pairs if label != found)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="of a test")
    parser.add_argument("--most", type=int, default=10, help="pairs to print (10)")
    args = parser.parse_args(argv)
    from trainers.prompting.errors import InputError

    try:
        for folder in args.folders:
            found = confusions(folder)
            print(f"{folder}: {sum(found.values())} wrong images")
            for (name, taken), number in found.most_common(args.most):
                print(f"  {number:3d}  {name} -> {taken}")
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
