"""`python -m steps.refresh`, as crontabs and docs call it: see mobile_centernet.mlops."""

import sys

from mobile_centernet.mlops.refresh import main

if __name__ == "__main__":
    sys.exit(main())
