"""register: the exported student as a version of the registered model in MLflow; the same file makes no new version.

It fails loudly: nothing may take a model for registered that is not.
Registering changes nothing on any device: promotion is a pipeline of its own.
"""

import json
from dataclasses import asdict
from typing import Any

from mobile_centernet.edge.graph import OUTPUTS
from mobile_centernet.edge.runtime import Detector
from mobile_centernet.files import write_json
from steps import lineage, tracking, workspace
from steps.digests import file_digest
from steps.params import Params


def register(params: Params) -> None:
    """Write data/reports/registration.json: which version of which model the exported file is."""
    mlflow = tracking.connect()
    name = params.register_.name
    client = mlflow.MlflowClient()
    digest = file_digest(workspace.ONNX_FP32)
    version = _find(client, name, digest)
    if version is None:
        version = _log_and_register(mlflow, client, name)
    else:
        print(f"{name} version {version} already holds this file")
    write_json(workspace.REGISTRATION, {"name": name, "version": int(version), "onnx_sha256": digest})
    print(f"registered: {name} version {version}")


def _find(client: Any, name: str, digest: str) -> str | None:
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get("onnx_sha256") == digest:
            return str(version.version)
    return None


def _log_and_register(mlflow: Any, client: Any, name: str) -> str:
    tags = _lineage()
    metrics = json.loads(workspace.METRICS.read_text(encoding="utf-8"))
    with mlflow.start_run(run_name="register", tags={"stage": "register", **tags}) as run:
        for who in ("teacher", "student"):
            mlflow.log_metric(f"{who}.map50", metrics[who]["map50"])
        logged = _log_model(mlflow, metrics)
        for report in (workspace.METRICS, workspace.PARITY, workspace.REPORT):
            mlflow.log_artifact(str(report), "reports")
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, source=logged.model_uri, run_id=run.info.run_id, tags=tags)
    return str(version.version)


def _log_model(mlflow: Any, metrics: dict[str, Any]) -> Any:
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    detector = Detector(workspace.ONNX_FP32)
    height, width = detector.input_size
    shapes = {"boxes": (1, -1, 4), "scores": (1, -1), "labels": (1, -1)}
    types = {"boxes": np.float32, "scores": np.float32, "labels": np.int64}
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (1, 3, height, width), "image")]),
        Schema([TensorSpec(np.dtype(types[output]), shapes[output], output) for output in OUTPUTS]),
    )
    return mlflow.onnx.log_model(
        onnx.load(str(workspace.ONNX_FP32)),
        name="model",
        signature=signature,
        pip_requirements=["onnx", "onnxruntime", "numpy"],  # else MLflow runs the model to guess them
        metadata={**asdict(detector.metadata), "metrics": metrics},
    )


def _lineage() -> dict[str, str]:
    """The version's tags, beside its own digest."""
    metrics = json.loads(workspace.METRICS.read_text(encoding="utf-8"))
    digests = {**lineage.data_digests(), **lineage.model_digests()}
    return {
        "git_commit": lineage.git_commit(),
        "params_sha256": lineage.params_digest(),
        "map50": f"{metrics['student']['map50']:.6f}",
        "measured_on": f"{metrics['measured_on']['set']}, {metrics['measured_on']['source']}",
        **{f"{name}_sha256": digest for name, digest in digests.items()},
    }
