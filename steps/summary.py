"""`python -m steps.summary`, as crontabs and docs call it."""

from mobile_centernet.mlops.summary import main

if __name__ == "__main__":
    main()
