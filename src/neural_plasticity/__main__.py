"""``python -m neural_plasticity`` is the ``plasticity`` command."""

import sys

from neural_plasticity.cli import main

sys.exit(main())
