"""`python -m pipelines training | retraining | promotion`, in the project's root.

Exit codes: 0 done, 1 failed; retraining also 10 no change, 11 another one is running, 12 rejected by the gate;
promotion also 11 and 12.
"""

import argparse
import sys
from pathlib import Path

from mobile_centernet.errors import UserError
from pipelines.environment import prepare_environment
from steps import workspace
from steps.params import load_params

FAILED = 1


def main() -> int:
    """Run the pipeline that the command line names."""
    parser = argparse.ArgumentParser("python -m pipelines", description="Run a ZenML pipeline on the active stack.")
    pipelines = parser.add_subparsers(dest="pipeline", required=True)
    for name, what in (("training", "every stage of dvc.yaml"), ("retraining", "refresh, train, judge, promote")):
        command = pipelines.add_parser(name, help=what)
        command.add_argument(
            "--settings", type=Path, metavar="FILE", help="ZenML run configuration (stacks/local.yaml)"
        )
        if name == "retraining":
            command.add_argument("--watch", action="store_true", help="print what would make it run, and end")
    pipelines.add_parser("promotion", help="the gate; takes the arguments of python -m steps.promote", add_help=False)
    arguments, further = parser.parse_known_args()
    if further and arguments.pipeline != "promotion":
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    prepare_environment()
    try:
        return _run(arguments, further)
    except (UserError, OSError) as error:
        print(f"error: {arguments.pipeline}: {error}", file=sys.stderr)
        return FAILED


def _run(arguments: argparse.Namespace, further: list[str]) -> int:
    if arguments.pipeline == "promotion":
        return _judge(further)
    if arguments.pipeline == "training":
        return 0 if _train(arguments.settings) else FAILED
    from pipelines.retraining import Drivers, RetrainingFailedError, retrain, watch

    if not arguments.watch:
        return retrain(Drivers(lambda: _train(arguments.settings), lambda: _judge([])))
    try:
        print("\n".join(watch()) or "nothing: every stage is up to date")
    except RetrainingFailedError as error:
        raise UserError(str(error)) from error
    return 0


def _train(settings: Path | None) -> bool:
    from pipelines.preflight import check_stack
    from pipelines.training import LOCAL, run_training

    check_stack(load_params(workspace.PARAMS))
    return run_training(settings or LOCAL)


def _judge(further: list[str]) -> int:
    from pipelines.promotion import run_promotion

    return run_promotion(further)


if __name__ == "__main__":
    sys.exit(main())
