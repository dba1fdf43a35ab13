"""register: the exported student as a version of the registered model in MLflow; the same files make no new version.

It fails loudly: nothing may take a model for registered that is not.
Registering changes nothing on any device: it names a challenger, and `python -m steps.promote` decides.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from filelock import FileLock

from mobile_centernet.errors import ModelError
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry import version_files
from mobile_centernet.mlops.registry.registry import CHALLENGER, Registry, Version
from mobile_centernet.mlops.registry.signed_bundle import is_attached, sign_exported, signing_key

LOCK = paths.WORK / "registration.lock"
DVC_LOCK = Path("dvc.lock")
EXPORT_TAG = "export_sha256"


def register(params: Params) -> None:
    """Write data/reports/registration.json: which version of which model the exported files are."""
    models = sorted(paths.EXPORT.glob("model.*.onnx"))
    if paths.ONNX_FP32 not in models:
        raise ModelError(f"{paths.ONNX_FP32}: expected the exported model, found nothing")
    digest = fingerprint({path.name: file_digest(path) for path in models})
    registry = Registry(params.register_.name)
    LOCK.parent.mkdir(exist_ok=True)
    with FileLock(LOCK):  # two at once would make two versions of the same files
        version = registry.find(EXPORT_TAG, digest)
        if version is None:
            version = _create(registry, models, digest)
        else:
            print(f"{registry.name} version {version.number} already holds this file")
        key = signing_key()
        if key and not is_attached(version):
            release = sign_exported(registry, version, params, key)
            print(f"signed: release {release}, attached to version {version.number}")
        if registry.aliases().get(CHALLENGER) != version.number:
            registry.set_alias(CHALLENGER, version.number)
    registration = {
        "name": registry.name,
        "version": version.number,
        "onnx_sha256": file_digest(paths.ONNX_FP32),
        EXPORT_TAG: digest,
    }
    write_json(paths.REGISTRATION, registration)
    print(f"registered: {registry.name} version {version.number}, alias {CHALLENGER}")


def _create(registry: Registry, models: Sequence[Path], digest: str) -> Version:
    metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
    tags = {
        "git_commit": lineage.git_commit(),
        "params_sha256": lineage.params_digest(),
        "map50": f"{metrics['student']['map50']:.6f}",
        "measured_on": f"{metrics['measured_on']['set']}, {metrics['measured_on']['source']}",
        **{f"{name}_sha256": value for name, value in (lineage.data_digests() | lineage.model_digests()).items()},
        **_dvc_lock(),
        EXPORT_TAG: digest,
    }
    with TemporaryDirectory() as folder:
        tags["manifest_sha256"] = version_files.pack(Path(folder), models, tags)
        return registry.create(
            Path(folder),
            model_file=paths.ONNX_FP32.name,
            input_size=Detector(paths.ONNX_FP32, provider="cpu").input_size,
            tags=tags,
            metrics={f"{who}.map50": metrics[who]["map50"] for who in ("teacher", "student")},
            reports=(paths.METRICS, paths.PARITY, paths.REPORT),
        )


def _dvc_lock() -> dict[str, str]:
    """Of dvc.lock without this stage's own entry, which DVC writes when the stage is done."""
    if not DVC_LOCK.is_file():
        return {}
    stages = yaml.safe_load(DVC_LOCK.read_text(encoding="utf-8"))["stages"]
    return {"dvc_lock_sha256": fingerprint({name: entry for name, entry in stages.items() if name != "register"})}
