"""register: the exported student as a version of the registered model in MLflow; the same files make no new version.

It fails loudly: nothing may take a model for registered that is not.
Registering changes nothing on any device: it names a challenger, and `python -m steps.promote` decides.
"""

import json
import logging
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
from mobile_centernet.mlops.registry.published import PINNED, publish_exported, trust_repository
from mobile_centernet.mlops.registry.registry import CHALLENGER, Registry

EXPORT_TAG = "export_sha256"

logger = logging.getLogger(__name__)


def register(params: Params) -> None:
    """Write data/reports/registration.json: which version of which model the exported files are.

    Raises:
        ModelError: the exported model is not there.
        RegistryError: the registry does not answer, or refuses.
        TrustError: the bundle for devices cannot be signed.
    """
    models = sorted(paths.EXPORT.glob("model.*.onnx"))
    if paths.ONNX_FP32 not in models:
        raise ModelError(f"{paths.ONNX_FP32}: expected the exported model, found nothing")
    digest = fingerprint({path.name: file_digest(path) for path in models})
    registry = Registry(params.register_.name)
    paths.REGISTRATION_LOCK.parent.mkdir(exist_ok=True)
    with FileLock(paths.REGISTRATION_LOCK):  # two at once would make two versions of the same files
        metrics = json.loads(paths.METRICS.read_text(encoding="utf-8"))
        digests = lineage.data_digests() | lineage.model_digests()
        tags = {
            "git_commit": lineage.git_commit(),
            "params_sha256": lineage.params_digest(),
            "map50": f"{metrics['student']['map50']:.6f}",
            "measured_on": f"{metrics['measured_on']['set']}, {metrics['measured_on']['source']}",
            **{f"{name}_sha256": value for name, value in digests.items()},
        }
        if paths.DVC_LOCK.is_file():
            # Without this stage's own entry, which DVC writes when the stage is done.
            stages = yaml.safe_load(paths.DVC_LOCK.read_text(encoding="utf-8"))["stages"]
            others = {name: entry for name, entry in stages.items() if name != "register"}
            tags["dvc_lock_sha256"] = fingerprint(others)
        tags[EXPORT_TAG] = digest
        version = registry.find(EXPORT_TAG, digest)
        if version is not None:
            logger.info("%s version %d already holds this file", registry.name, version.number)
        repository = trust_repository(params)
        if version is None or repository:
            with TemporaryDirectory() as folder:
                packed = version_files.pack(Path(folder), models, tags)
                if version is None:
                    version = registry.create(
                        Path(folder),
                        model_file=paths.ONNX_FP32.name,
                        input_size=Detector(paths.ONNX_FP32, provider="cpu").input_size,
                        tags={**tags, PINNED: packed},
                        metrics={f"{role}.map50": metrics[role]["map50"] for role in paths.ROLES},
                        reports=(paths.METRICS, paths.PARITY, paths.REPORT),
                    )
        if repository:
            # The tag is not believed: only files that this checkout made are pinned in what it signs.
            pinned = {PINNED: packed} if version.tags.get(PINNED) == packed else {}
            publish_exported(repository, version, params, {**tags, **pinned})
        if registry.aliases().get(CHALLENGER) != version.number:
            registry.set_alias(CHALLENGER, version.number)
    registration = {
        "name": registry.name,
        "version": version.number,
        "onnx_sha256": file_digest(paths.ONNX_FP32),
        EXPORT_TAG: digest,
    }
    write_json(paths.REGISTRATION, registration)
    logger.info("registered: %s version %d, alias %s", registry.name, version.number, CHALLENGER)
