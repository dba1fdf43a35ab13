"""`python -m steps.summary`: what the last `dvc repro` left, in a few lines."""

import json

from mobile_centernet.mlops import paths


def main() -> None:
    """Print both mAPs, where the report is, and how to open MLflow."""
    metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    registration = json.loads(paths.REGISTRATION.read_text(encoding="utf-8"))
    measured_on = metrics["measured_on"]
    print(f"\nmAP@0.5 on {measured_on['frames']} frames of {measured_on['set']} ({measured_on['source']}):")
    for who in ("teacher", "student"):
        per_class = ", ".join(
            f"{name} {value:.3f}" if value is not None else f"{name} not in the set"
            for name, value in metrics[who]["ap50"].items()
        )
        print(f"  {who}  {metrics[who]['map50']:.3f}   ({per_class})")
    print(f"Report      {paths.REPORT}")
    print(f"ONNX        {paths.ONNX_FP32}")
    print(f"Registered  {registration['name']} version {registration['version']}")
    print(f"MLflow      .venv/bin/mlflow ui --backend-store-uri sqlite:///{paths.MLFLOW_DB.resolve()}")
