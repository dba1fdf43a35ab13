"""`python -m steps.summary`: what the last `dvc repro` left, in a few lines."""

import json

import click

from mobile_centernet.mlops import paths


@click.command()
def main() -> None:
    """Print both mAPs of the last `dvc repro`, where the report is, and how to open MLflow."""
    metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    registration = json.loads(paths.REGISTRATION.read_text(encoding="utf-8"))
    measured_on = metrics["measured_on"]
    click.echo(f"\nmAP@0.5 on {measured_on['frames']} frames of {measured_on['set']} ({measured_on['source']}):")
    for who in ("teacher", "student"):
        per_class = ", ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} not in the set"
            for name, value in metrics[who]["ap50"].items()
        )
        click.echo(f"  {who}  {metrics[who]['map50']:.3f}   ({per_class})")
    click.echo(f"Report      {paths.REPORT}")
    click.echo(f"ONNX        {paths.ONNX_FP32}")
    click.echo(f"Registered  {registration['name']} version {registration['version']}")
    click.echo(f"MLflow      .venv/bin/mlflow ui --backend-store-uri sqlite:///{paths.MLFLOW_DB.resolve()}")
