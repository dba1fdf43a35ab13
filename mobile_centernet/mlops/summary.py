"""`python -m steps.summary`: what the last `dvc repro` left, in a few lines."""

import json
from urllib.parse import quote

import click

from mobile_centernet.errors import without_password
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.mlflow_server import (
    CLASSIC,
    EXPERIMENT,
    connect,
    failures,
    first_line,
    tracking_uri,
)
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registration import registered


@click.command()
def main() -> None:
    """Print both mAPs of the last `dvc repro`, where the report is, how to open MLflow, and what to commit and push."""
    metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    known = registered(load_params(paths.PARAMS))
    measured_on = metrics["measured_on"]
    click.echo(f"\nmAP@0.5 on {measured_on['frames']} frames of {measured_on['set']} ({measured_on['source']}):")
    for who in ("teacher", "student"):
        per_class = ", ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} not in the set"
            for name, value in metrics[who]["ap50"].items()
        )
        click.echo(f"  {who}  {metrics[who]['map50']:.3f}   ({per_class})")
    if field := metrics.get(paths.FIELD):
        scores = ", ".join(f"{who} {field[who]['map50']:.3f}" for who in ("teacher", "student"))
        click.echo(f"  on {field['frames']} reviewed frames from the field: {scores}")
    click.echo(f"Report      {paths.REPORT}")
    click.echo(f"ONNX        {paths.ONNX_FP32}")
    version = f"{known.name} version {known.version}" if known else "not yet: python -m steps register"
    click.echo(f"Registered  {version}")
    click.echo("Keep it     git add dvc.lock params.yaml && git commit   (which data and files are of this run)")
    click.echo("            dvc push && git push   (data, weights and files, to the DVC remote; docs/team.md)")
    try:
        server = tracking_uri()
        experiment = f"/{connect().get_experiment_by_name(EXPERIMENT).experiment_id}"
    except failures() as error:
        click.echo(f"MLflow      {first_line(error)}")
        return
    if server is None:
        click.echo(f"MLflow      .venv/bin/mlflow ui --backend-store-uri sqlite:///{paths.MLFLOW_DB.resolve()}")
        server = "http://127.0.0.1:5000"
    place = without_password(server).rstrip("/")
    click.echo(f"  runs      {place}/#/experiments{experiment}/runs{CLASSIC}")
    if known:
        click.echo(f"  version   {place}/#/models/{quote(known.name)}/versions/{known.version}{CLASSIC}")
