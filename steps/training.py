"""train_teacher, distill_student: two phases each, pretraining on BDD100K and fine-tuning on ivslab."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mobile_centernet.data.augment import Augmentation
from mobile_centernet.data.store import PreparedSet
from mobile_centernet.files import write_atomically, write_json
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.registry import build_model
from mobile_centernet.training.detector import Schedule
from mobile_centernet.training.fit import Fitted, Plan, fit
from steps import tracking, workspace
from steps.digests import file_digest, fingerprint, folder_digest
from steps.params import DistillPhase, Loss, Params, Phase

DATA_SETS: Mapping[str, str] = {"pretrain": "bdd100k", "finetune": "ivslab"}
PHASE_FILES: Mapping[str, str] = {"pretrain": "pretrained.safetensors", "finetune": workspace.MODEL_FILE}


def train_teacher(params: Params) -> None:
    """The big network, from labels alone."""
    section = params.train_teacher
    _train("train_teacher", section.model, {"pretrain": section.pretrain, "finetune": section.finetune}, params)


def distill_student(params: Params) -> None:
    """The small network, from labels and, where a phase says so, from the teacher of the same phase."""
    section = params.distill_student
    phases = {"pretrain": section.pretrain, "finetune": section.finetune}
    teachers = {name: workspace.TEACHER / PHASE_FILES[name] for name, phase in phases.items() if phase.distill_epochs}
    _train("distill_student", section.model, phases, params, teachers)


def _train(
    stage: str,
    model_name: str,
    phases: Mapping[str, Phase],
    params: Params,
    teachers: Mapping[str, Path] | None = None,
) -> None:
    out = workspace.MODELS / stage.split("_")[1]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(params.seed)
    classes = PreparedSet(workspace.PREPARED / "ivslab", "train").classes
    student = build_model(model_name, len(classes))
    records: list[dict[str, Any]] = []
    summary: dict[str, Any] = {"model": model_name}
    chain = ""
    with tracking.run(stage, params, ("seed", "input_size", "augment", "loss", "hardware", stage)) as tracker:
        for name, phase in phases.items():
            teacher_file = (teachers or {}).get(name)
            chain = _fingerprint(name, phase, params, chain, teacher_file)
            print(f"\n{stage}: {name} on {DATA_SETS[name]}, {phase.epochs} epochs", flush=True)
            offset = len(records)

            def log_epoch(record: dict[str, float], name: str = name, offset: int = offset) -> None:
                tracker.log(record, step=offset + int(record["epoch"]), prefix=f"{name}/")

            fitted = _fit_phase(
                name, student, phase, params, workspace.WORK / stage / chain[:16], chain, teacher_file, log_epoch
            )
            records += [{"phase": name, **record} for record in fitted.history]
            summary[name] = {"best_map50": fitted.best_map50, "best_epoch": fitted.best_epoch, "fingerprint": chain}
            extra = {"fingerprint": chain, "data_set": DATA_SETS[name], "val_map50": f"{fitted.best_map50:.6f}"}
            save_model(student, out / PHASE_FILES[name], classes=classes, input_size=params.input_size.hw, extra=extra)
            print(f"{stage}: {name}: best validation mAP@0.5 {fitted.best_map50:.3f} in epoch {fitted.best_epoch}")
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(out / workspace.HISTORY_FILE, lines.encode())
        write_json(out / "training.json", summary)
        tracker.finish(out, model_digest=file_digest(out / workspace.MODEL_FILE))
    shutil.rmtree(workspace.WORK / stage)


def _fit_phase(
    name: str,
    student: CenterNet,
    phase: Phase,
    params: Params,
    work: Path,
    chain: str,
    teacher_file: Path | None,
    log_epoch: Any,
) -> Fitted:
    folder = workspace.PREPARED / DATA_SETS[name]
    return fit(
        student,
        _criterion(DATA_SETS[name], params.loss),
        Plan(
            epochs=phase.epochs,
            batch_size=phase.batch_size,
            schedule=Schedule(phase.learning_rate, phase.milestones, phase.warmup_steps),
            seed=params.seed,
            workers=params.hardware.workers,
            precision=params.hardware.precision,
            ema_decay=phase.ema_decay,
            distill_epochs=phase.distill_epochs if isinstance(phase, DistillPhase) else 0,
        ),
        train_set=PreparedSet(folder, "train"),
        validation_set=PreparedSet(folder, "val"),
        input_size=params.input_size.hw,
        augmentation=Augmentation(**params.augment.model_dump()),
        work=work,
        fingerprint=chain,
        teacher=load_model(teacher_file).model if teacher_file else None,
        on_epoch=log_epoch,
    )


def _criterion(data_set: str, loss: Loss) -> Criterion:
    weights = json.loads(workspace.CLASS_WEIGHTS.read_text(encoding="utf-8"))[data_set]["weights"]
    return Criterion(
        list(weights.values()),
        alpha=loss.alpha,
        beta=loss.beta,
        weights={
            "heatmap": 1.0,
            "size": loss.lambda_size,
            "offset": loss.lambda_offset,
            "pixelwise": loss.lambda_pixelwise,
            "pairwise": loss.lambda_pairwise,
        },
        kl_direction=loss.kl_direction,
    )


def _fingerprint(name: str, phase: Phase, params: Params, before: str, teacher_file: Path | None) -> str:
    """Of everything that the phase's result depends on, the phase before it included."""
    return fingerprint(
        {
            "before": before,
            "phase": phase.model_dump(mode="json"),
            "seed": params.seed,
            "input_size": params.input_size.model_dump(),
            "augment": params.augment.model_dump(),
            "loss": params.loss.model_dump(),
            "data": folder_digest(workspace.PREPARED / DATA_SETS[name]),
            "class_weights": file_digest(workspace.CLASS_WEIGHTS),
            "teacher": file_digest(teacher_file) if teacher_file else None,
        }
    )
