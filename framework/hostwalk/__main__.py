"""``python -m hostwalk`` is the command ``hostwalk``."""

import sys

from hostwalk.cli.main import main

sys.exit(main())
