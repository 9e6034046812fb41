"""Front end of experiments/tools/makespan.py, which describes the command: --help prints it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.tools.makespan import main

if __name__ == "__main__":
    sys.exit(main())
