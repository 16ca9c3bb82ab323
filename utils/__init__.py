"""Import names that the documentation promises from a checkout. Nothing is written here; it lives in src/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # also where the package is not installed
