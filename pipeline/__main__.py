"""`python -m pipeline <verb>`."""

import sys

from pipeline.cli.main import main

sys.exit(main(sys.argv[1:]))
