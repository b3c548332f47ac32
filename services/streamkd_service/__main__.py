"""`python -m streamkd_service` is the command line."""

import sys

from streamkd_service.cli import main

sys.exit(main())
