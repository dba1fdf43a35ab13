"""register: the exported student as a version of the registered model in MLflow; the same files make no new version.

No stage: it changes a registry, which is never a side effect of `dvc repro`. `make repro` and the pipelines run it
after the stages; experiments do not. It fails loudly: nothing may take a model for registered that is not.
Registering changes nothing on any device: it names a challenger, and `python -m steps.promote` decides.
"""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registration import Registration, exported_digest
from mobile_centernet.mlops.registry import version_files
from mobile_centernet.mlops.registry.published import PINNED, publish_exported, trust_repository
from mobile_centernet.mlops.registry.registry import CHALLENGER, Registry
from mobile_centernet.mlops.stages import stale_stages

EXPORT_TAG = "export_sha256"
ABSENT = {"deleted", "not in cache"}  # how DVC calls what is not here

logger = logging.getLogger(__name__)


def register(params: Params) -> None:
    """Write data/reports/registration.json: which version of which model the exported files are.

    Raises:
        ModelError: the exported model is not there.
        RegistryError: the registry does not answer, or refuses.
        TrustError: the bundle for devices cannot be signed.
        UserError: this is an experiment's checkout, or some stage has to run again.
    """
    if paths.project_root() != Path.cwd().resolve():
        raise UserError("an experiment registers nothing: `dvc exp apply` it in the project, then `make repro`")
    models = sorted(paths.EXPORT.glob("model.*.onnx"))
    if paths.ONNX_FP32 not in models:
        raise ModelError(f"{paths.ONNX_FP32}: expected the exported model, found nothing")
    digest = exported_digest(params)
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
            tags["dvc_lock_sha256"] = file_digest(paths.DVC_LOCK)
        tags[EXPORT_TAG] = digest
        version = registry.find(EXPORT_TAG, digest)
        if version is not None:
            logger.info("%s version %d already holds these files", registry.name, version.number)
        repository = trust_repository(params)
        if version is None or repository:
            # In a pod not everything is there: that says nothing about the files that are.
            for stage, why in stale_stages().items() if Path(".dvc").is_dir() else ():
                states = {state for each in why if isinstance(each, dict) for _, state in lineage.flatten(each)}
                if states - ABSENT or "changed command" in why:
                    found = f"found {stage} stale: `dvc repro` first"
                    raise UserError(f"{paths.EXPORT}: expected what params, code and data make of them now, {found}")
            with TemporaryDirectory() as folder:
                packed = version_files.pack(Path(folder), models, tags)
                if version is None:
                    made = registry.create(
                        Path(folder),
                        model_file=paths.ONNX_FP32.name,
                        input_size=Detector(paths.ONNX_FP32, provider="cpu").input_size,
                        tags={**tags, PINNED: packed},
                        metrics={f"{role}.map50": metrics[role]["map50"] for role in paths.ROLES},
                        reports=(paths.METRICS, paths.PARITY, paths.REPORT),
                    )
                    # The lock is this machine's: where another registered the same files meanwhile, the first stays.
                    version = registry.find(EXPORT_TAG, digest) or made
                    if version.number != made.number:
                        registry.delete(made)
        if repository:
            # The tag is not believed: only files that this checkout made are pinned in what it signs.
            pinned = {PINNED: packed} if version.tags.get(PINNED) == packed else {}
            publish_exported(repository, version, params, {**tags, **pinned})
        if registry.aliases().get(CHALLENGER) != version.number:
            registry.set_alias(CHALLENGER, version.number)
    onnx = file_digest(paths.ONNX_FP32)
    registration = Registration(name=registry.name, version=version.number, onnx_sha256=onnx, export_sha256=digest)
    write_json(paths.REGISTRATION, registration.model_dump())
    logger.info("registered: %s version %d, alias %s", registry.name, version.number, CHALLENGER)
