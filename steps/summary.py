"""`python -m steps.summary`, as crontabs and docs call it: see mobile_centernet.mlops."""

from mobile_centernet.mlops.summary import main

if __name__ == "__main__":
    main()
