"""`python -m steps.refresh`, as crontabs and docs call it."""

from mobile_centernet.mlops.refresh import main

if __name__ == "__main__":
    main()
