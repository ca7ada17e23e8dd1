"""`python -m sft` is `sft`."""

from __future__ import annotations

import sys

from sft.cli.main import main

sys.exit(main())
