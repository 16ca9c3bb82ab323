"""``plasticity run`` from a checkout, whether or not the package is installed.

python scripts/run_neural_plasticity.py --model_name distilgpt2 --quick_test --use_dashboard
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from neural_plasticity.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
