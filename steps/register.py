"""register: the exported student as a version of the registered model in MLflow; the same file makes no new version.

It fails loudly: nothing may take a model for registered that is not.
Registering changes nothing on any device: promotion is a pipeline of its own.
"""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobile_centernet.edge.graph import OUTPUTS
from mobile_centernet.edge.runtime import Detector
from mobile_centernet.files import write_json
from steps import tracking, workspace
from steps.digests import file_digest, folder_digest
from steps.params import Params


def register(params: Params) -> None:
    """Write data/reports/registration.json: which version of which model the exported file is."""
    mlflow = tracking.connect()
    name = params.register_.name
    client = mlflow.MlflowClient()
    digest = file_digest(workspace.ONNX_FP32)
    version = _find(client, name, digest)
    if version is None:
        version = _log_and_register(mlflow, client, name, digest)
    else:
        print(f"{name} version {version} already holds this file")
    write_json(workspace.REGISTRATION, {"name": name, "version": int(version), "onnx_sha256": digest})
    print(f"registered: {name} version {version}")


def _find(client: Any, name: str, digest: str) -> str | None:
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get("onnx_sha256") == digest:
            return str(version.version)
    return None


def _log_and_register(mlflow: Any, client: Any, name: str, digest: str) -> str:
    tags = {"onnx_sha256": digest, **_lineage()}
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
    """What leads from a version back to its origins."""
    facts = {
        "git_commit": _git_commit(),
        "params_sha256": file_digest(workspace.PARAMS),
        "teacher_sha256": file_digest(workspace.TEACHER / workspace.MODEL_FILE),
        "student_sha256": file_digest(workspace.STUDENT / workspace.MODEL_FILE),
        "map50": f"{json.loads(workspace.METRICS.read_text(encoding='utf-8'))['student']['map50']:.6f}",
    }
    for data_set in ("bdd100k", "ivslab"):
        facts[f"{data_set}_sha256"] = folder_digest(workspace.PREPARED / data_set)
    return facts


def _git_commit() -> str:
    """The commit, with `-dirty` behind it when files that git tracks differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path.cwd(),
    )
    return described.stdout.strip() if described.returncode == 0 else "unknown: not a git checkout"
