"""`python -m lower86`: the command line."""

import sys

from .cli.main import main

sys.exit(main())
