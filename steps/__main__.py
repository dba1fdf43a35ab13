"""`python -m steps STAGE`: run one stage of dvc.yaml in the project's root."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import cast

import click
from filelock import FileLock, Timeout

from mobile_centernet.errors import UserError, exit_on_user_error
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.stages import ListedParams, listed_params
from mobile_centernet.processes import Launch, end_with_parent

logger = logging.getLogger(__name__)

STAGES: Mapping[str, str] = {
    "fetch_bdd100k": "fetch",
    "fetch_ivslab": "fetch",
    "subsample_ivslab": "subsample",
    "fetch_field": "fetch",
    "prepare_bdd100k": "prepare",
    "prepare_ivslab": "prepare",
    "class_weights": "class_weights",
    "pretrain_teacher": "train",
    "train_teacher": "train",
    "pseudo_label": "pseudo_label",
    "fetch_champion": "champion",
    "pretrain_student": "train",
    "distill_student": "train",
    "evaluate": "evaluate",
    "export": "export",
    "bench": "bench",
    "report": "report",
}
"""The file that holds each stage's function, which has the stage's name; in the order of dvc.yaml."""

REGISTER = "register"
"""Run like a stage, after them: what changes a registry is never a side effect of `dvc repro` or an experiment."""

STARTED_BY_DVC = "DVC_STAGE"  # DVC sets it for its commands


def load_stage(name: str) -> Callable[[Params], None]:
    """The function of a stage; imported only now, so that no stage waits for the libraries of another."""
    function: Callable[[Params], None] = getattr(import_module(f"steps.{STAGES.get(name, name)}"), name)
    return function


@contextmanager
def single_instance(stage: str) -> Iterator[None]:
    """Hold the stage's lock, which the kernel frees when this process ends in any way; wait for one that still runs.

    A stage ends with the DVC that started it. Otherwise a killed `dvc repro` would leave its stage running, and the
    next one would start a second beside it.
    """
    # DVC's shell execs the stage, so the parent is DVC. A stage that a person started may outlive their terminal.
    if STARTED_BY_DVC in os.environ:
        end_with_parent()
    paths.WORK.mkdir(exist_ok=True)
    lock = FileLock(paths.WORK / f"{stage}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("%s: another process runs this stage here; waiting until it ends", stage)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@click.command(epilog=f"Stages: {', '.join(STAGES)}; and {REGISTER}, after them.")
@click.argument("stage", metavar="STAGE", type=click.Choice([*STAGES, REGISTER]))
def main(stage: str) -> None:
    """Run one stage of the pipeline (see dvc.yaml), or register what they left.

    Exit code 0: the stage is done. 2: there is something for the user to fix, told in one sentence.
    """
    setup_logging()
    with exit_on_user_error(stage):
        params = load_params(paths.PARAMS)
        launch, trainings = Launch.of(), [name for name, file in STAGES.items() if file == "train"]
        if launch.processes > 1 and stage not in trainings:
            found = f"{launch.processes} (WORLD_SIZE); a launcher may start {', '.join(trainings)}"
            raise UserError(f"{stage}: expected one process, found {found}")
        with single_instance(stage) if launch.leads else nullcontext():
            listed = cast(Params, ListedParams(params, stage, listed_params()[stage])) if stage in STAGES else params
            load_stage(stage)(listed)


if __name__ == "__main__":
    main()
