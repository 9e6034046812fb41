"""Mean and spread of the test results in log files, with CoOp's command line.

    python parse_test_res.py output/base2new/train_base/eurosat/shots_16/BMIP/CFG               # seed folders
    python parse_test_res.py output/base2new/test_new/eurosat/shots_16/BMIP/CFG --test-log      # of evaluations
    python parse_test_res.py output/base2new/train_base/eurosat/shots_16/BMIP --multi-exp       # folders of those

Reads the logs of this project, of CoOp, and of MaPLe and PromptSRC, whose end of training is worded differently.
scripts/tables.py reads the records instead, which have all digits.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from pathlib import Path


def read_log(path: Path, keyword: str, test_log: bool) -> float | None:
    """The last value of a keyword after the end of training, or in a test's result; None where there is none."""
    end = r"^\s*=> result" if test_log else r"^\s*Finish(?:ed)? training"
    after = re.split(end, path.read_text(errors="replace"), maxsplit=1, flags=re.MULTILINE)[1:]
    found = re.findall(rf"^\s*\* {re.escape(keyword)}: ([\d.]+)%", "".join(after), re.MULTILINE)
    return float(found[-1]) if found else None


def parse_folder(folder: Path, keyword: str, test_log: bool, ci95: bool) -> float | None:
    """Print the value of each seed's folder, and their mean and spread; gives the mean."""
    print(f"Parsing files in {folder}")
    values = []
    for log in sorted(folder.glob("*/log.txt")):
        value = read_log(log, keyword, test_log)
        if value is None:
            print(
                f"note: {log} has no {keyword} after its end; did the run come to it? Try --test-log for evaluations"
            )
        else:
            print(f"file: {log}. {keyword}: {value:.2f}%")
            values.append(value)
    if not values:
        print(f"note: there is no result below {folder}; name the folder that holds those of the seeds")
        return None
    spread = statistics.pstdev(values)
    if ci95:
        spread *= 1.96 / len(values) ** 0.5
    print(f"===\n* {keyword}: {statistics.fmean(values):.2f}% +- {spread:.2f}%\n===")
    return statistics.fmean(values)


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("directory", type=Path, help="folder that holds the seeds' folders")
    add("--ci95", action="store_true", help="half the 95 per cent confidence interval in place of the deviation")
    add("--test-log", action="store_true", help="logs of evaluations")
    add("--multi-exp", action="store_true", help="the folder holds several such folders; average their means")
    add("--keyword", default="accuracy", help="accuracy, error or macro_f1")
    args = parser.parse_args(argv)
    if not args.directory.is_dir():
        print(f"error: there is no folder {args.directory}", file=sys.stderr)
        return 1
    inside = sorted(path for path in args.directory.iterdir() if path.is_dir())
    folders = inside if args.multi_exp else [args.directory]
    results = [parse_folder(folder, args.keyword, args.test_log, args.ci95) for folder in folders]
    means = [mean for mean in results if mean is not None]
    if args.multi_exp and means:
        print(f"Average of {args.keyword} over {len(means)} experiments: {statistics.fmean(means):.2f}%")
    return 0 if means else 1


if __name__ == "__main__":
    sys.exit(main())
