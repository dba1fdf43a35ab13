"""`python -m pipelines training | retraining | promotion`, in the project's root.

Exit codes: 0 done, 1 failed; retraining also 10 no change, 11 another one is running, 12 rejected by the gate;
promotion also 11 and 12.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from mobile_centernet.errors import exit_on_user_error
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registration import registered
from mobile_centernet.mlops.stages import stale_stages
from pipelines.graph import with_followers
from pipelines.settings import LOCAL, is_remote, load_settings, prepare_environment, run

FAILED = 1

settings_option = click.option(
    "--settings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default=LOCAL,
    help="ZenML run configuration.  [default: pipelines/stacks/local.yaml]",
)


@click.group()
def main() -> None:
    """Run a ZenML pipeline on the active stack."""


@main.command()
@settings_option
def training(settings: Path) -> None:
    """Every stage of dvc.yaml that is stale, and those after it; on a remote stack every one; then a version."""
    with _zenml("training"):
        stale = stale_stages()
        params, remote = load_params(paths.PARAMS), is_remote()
        if not stale and not remote and registered(params):
            click.echo("training: nothing to do, every stage is up to date and its version registered")
            return
        from pipelines.preflight import check_stack
        from pipelines.training import training as pipeline

        check_stack(params, settings)
        run(pipeline, settings, remote, None if remote else with_followers(stale), model=params.register_.name)


@main.command()
@settings_option
@click.option("--watch", is_flag=True, help="Print what would start a run, and exit.")
@click.pass_context
def retraining(ctx: click.Context, settings: Path, watch: bool) -> None:
    """Refresh, train, judge, promote: now, or as often as the settings' schedule says, which is the stack's to keep.

    Exit codes: 0 promoted (or the champion already), 1 failed, 10 no change, 11 another one is running, 12 rejected.
    """
    from pipelines.preflight import check_stack
    from pipelines.retraining import reasons, retrain

    def train_and_judge(stages: list[str]) -> int:
        from pipelines.promotion import gate_code
        from pipelines.training import retraining as pipeline

        params, remote = load_params(paths.PARAMS), is_remote()
        check_stack(params, settings)
        ended = run(pipeline, settings, remote, None if remote else stages, model=params.register_.name)
        return gate_code(ended)

    with _zenml("retraining"):
        if watch:
            click.echo("\n".join(reasons()) or "nothing: every stage is up to date")
        elif load_settings(settings).get("schedule"):
            check_stack(load_params(paths.PARAMS), settings)
            from pipelines.training import retraining as pipeline

            pipeline.with_options(config_path=str(settings))(is_remote())
        else:
            ctx.exit(retrain(train_and_judge))


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def promotion(ctx: click.Context, arguments: Sequence[str]) -> None:
    """The gate; takes the arguments of python -m steps.promote."""
    with _zenml("promotion"):
        from pipelines.promotion import gate_code
        from pipelines.promotion import promotion as pipeline

        ctx.exit(gate_code(run(pipeline, None, list(arguments))))


@contextmanager
def _zenml(pipeline: str) -> Iterator[None]:
    """ZenML's environment, which its import reads, and one sentence for what goes wrong."""
    setup_logging()
    with exit_on_user_error(pipeline, FAILED):
        prepare_environment()
        yield


if __name__ == "__main__":
    main()
