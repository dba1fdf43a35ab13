"""`python -m steps.promote`, as crontabs and docs call it."""

from mobile_centernet.mlops.cli import promote

if __name__ == "__main__":
    promote()
