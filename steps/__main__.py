"""`python -m steps STAGE`: run one stage of dvc.yaml in the project's root."""

import argparse
import sys
from typing import cast

from mobile_centernet.errors import UserError
from steps import workspace
from steps.alone import alone
from steps.params import Params, load_params
from steps.stage import ListedParams, listed_params
from steps.stages import STAGES, load_stage


def main() -> int:
    """Exit 0 when the stage is done, 2 with one sentence when the user has something to mend."""
    parser = argparse.ArgumentParser("python -m steps", description="Run one stage of the pipeline (see dvc.yaml).")
    parser.add_argument("stage", choices=STAGES)
    stage = parser.parse_args().stage
    try:
        params = load_params(workspace.PARAMS)
        with alone(stage):
            load_stage(stage)(cast(Params, ListedParams(params, stage, listed_params(stage))))
    except UserError as error:
        print(f"error: {stage}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written, a registry that does not answer
        print(f"error: {stage}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
