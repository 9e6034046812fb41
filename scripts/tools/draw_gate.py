"""Front end of experiments/tools/draw_gate.py, which describes the command: --help prints it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.tools.draw_gate import main

if __name__ == "__main__":
    sys.exit(main())
