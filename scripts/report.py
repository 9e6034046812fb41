"""Front end of experiments/report/, which describes the command: --help prints it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.report import main

if __name__ == "__main__":
    sys.exit(main())
