"""`python -m pipelines training | retraining | promotion`, in the project's root.

Exit codes: 0 done, 1 failed; retraining also 10 no change, 11 another one is running, 12 rejected by the gate;
promotion also 11 and 12.
"""

import argparse
import sys
from pathlib import Path

from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from pipelines.settings import LOCAL, has_schedule, prepare_environment

FAILED = 1


def main() -> int:
    """Run the pipeline that the command line names."""
    parser = argparse.ArgumentParser("python -m pipelines", description="Run a ZenML pipeline on the active stack.")
    pipelines = parser.add_subparsers(dest="pipeline", required=True)
    for name, what in (("training", "every stage of dvc.yaml"), ("retraining", "refresh, train, judge, promote")):
        command = pipelines.add_parser(name, help=what)
        command.add_argument(
            "--settings", type=Path, metavar="FILE", help="ZenML run configuration (pipelines/stacks/local.yaml)"
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
        from pipelines.promotion import run_promotion

        return run_promotion(further)
    settings: Path = arguments.settings or LOCAL
    if arguments.pipeline == "training":
        _check_stack(settings)
        from pipelines.training import run_training

        run_training(settings)
        return 0
    return _watch() if arguments.watch else _retrain(settings)


def _retrain(settings: Path) -> int:
    """Here and now, unless the settings have a schedule, which is the stack's to keep."""
    if has_schedule(settings):
        _check_stack(settings)
        from pipelines.training import schedule_retraining

        schedule_retraining(settings)
        return 0
    from pipelines.retraining import retrain

    return retrain(lambda: _train_and_judge(settings))


def _train_and_judge(settings: Path) -> int:
    _check_stack(settings)
    from pipelines.training import run_retraining

    return run_retraining(settings)


def _watch() -> int:
    from pipelines.retraining import RetrainingFailedError, watch

    try:
        print("\n".join(watch()) or "nothing: every stage is up to date")
    except RetrainingFailedError as error:
        raise UserError(str(error)) from error
    return 0


def _check_stack(settings: Path) -> None:
    from pipelines.preflight import check_stack

    check_stack(load_params(paths.PARAMS), settings)


if __name__ == "__main__":
    sys.exit(main())
