"""train_teacher, distill_student: two phases each, pretraining on BDD100K and fine-tuning on ivslab."""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.data.training.balance import class_shares, repeat_factors
from mobile_centernet.data.training.loader import TrainingSamples, unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import MODE, PseudoLabels, read_pseudo_labels
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint, folder_digest
from mobile_centernet.mlops.params import DistillPhase, Loss, Params, Phase, Sampling, Trained
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.pretrained import load_pretrained
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import Schedule
from steps.pseudo_label import pseudo_labels_file

DATA_SETS: Mapping[str, str] = {"pretrain": "bdd100k", "finetune": "ivslab"}
SHOWN_DIGITS = 16
INIT_FILE = "init.json"
PHASE_FILES: Mapping[str, str] = {"pretrain": "pretrained.safetensors", "finetune": paths.MODEL_FILE}


def train_teacher(params: Params) -> None:
    """The big network, from labels alone."""
    section = params.train_teacher
    _train("train_teacher", section, {"pretrain": section.pretrain, "finetune": section.finetune}, params)


def distill_student(params: Params) -> None:
    """The small network, from labels and, where a phase says so, from the teacher of the same phase."""
    section = params.distill_student
    phases = {"pretrain": section.pretrain, "finetune": section.finetune}
    teachers = {name: paths.TEACHER / PHASE_FILES[name] for name, phase in phases.items() if phase.distill_epochs}
    _train("distill_student", section, phases, params, teachers, unlabelled=params.unlabelled.mode)


def _train(
    stage: str,
    section: Trained,
    phases: Mapping[str, Phase],
    params: Params,
    teachers: Mapping[str, Path] | None = None,
    *,
    unlabelled: str = "skip",
) -> None:
    out = paths.MODELS / stage.split("_")[1]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(params.seed)
    classes = PreparedSet(paths.PREPARED / "ivslab", "train").classes
    student = build_model(section.model, len(classes))
    init = _load_initial_weights(section.init, student, classes, out / INIT_FILE)
    records: list[dict[str, Any]] = []
    summary: dict[str, Any] = {"model": section.model, "init": init}
    chain = fingerprint({"model": section.model, "init": init and init["sha256"]})
    own = () if teachers is None else ("unlabelled",)
    sections = ("seed", "input_size", "augment", "loss", *own, "sampling", "hardware")
    chains: dict[str, str] = {}
    for name, phase in phases.items():
        chain = chains[name] = _fingerprint(name, phase, params, chain, (teachers or {}).get(name), unlabelled)
    _refuse_others(paths.WORK / stage, chains.values())
    with tracking.run(stage, params, (*sections, stage)) as tracker:
        for name, phase in phases.items():
            teacher_file, chain = (teachers or {}).get(name), chains[name]
            print(f"\n{stage}: {name} on {DATA_SETS[name]}, {phase.epochs} epochs", flush=True)
            use = "skip" if unlabelled == "distill" and teacher_file is None else unlabelled
            pseudo_labels = _pseudo_labels(DATA_SETS[name]) if use == MODE else None
            summary[name] = {"unlabelled": _account(DATA_SETS[name], use, pseudo_labels)}
            summary[name]["sampling"] = _sampling(name, params.sampling, pseudo_labels, tracker)
            offset = len(records)

            def log_epoch(record: dict[str, float], name: str = name, offset: int = offset) -> None:
                tracker.log(record, step=offset + int(record["epoch"]), prefix=f"{name}/")

            fitted = _fit_phase(
                name,
                student,
                phase,
                params,
                paths.WORK / stage / chain[:SHOWN_DIGITS],
                chain,
                teacher_file,
                log_epoch,
                distill_unlabelled=use == "distill",
                pseudo_labels=pseudo_labels,
            )
            records += [{"phase": name, **_timeless(record)} for record in fitted.history]
            summary[name] |= {"best_map50": fitted.best_map50, "best_epoch": fitted.best_epoch, "fingerprint": chain}
            extra = {"fingerprint": chain, "data_set": DATA_SETS[name], "val_map50": f"{fitted.best_map50:.6f}"}
            save_model(student, out / PHASE_FILES[name], classes=classes, input_size=params.input_size.hw, extra=extra)
            print(f"{stage}: {name}: best validation mAP@0.5 {fitted.best_map50:.3f} in epoch {fitted.best_epoch}")
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(out / paths.HISTORY_FILE, lines.encode())
        write_json(out / "training.json", summary)
        tracker.finish(out.iterdir(), model_digest=file_digest(out / paths.MODEL_FILE))
    shutil.rmtree(paths.WORK / stage)


def _timeless(record: Mapping[str, float]) -> dict[str, float]:
    """Without how long it took, so that the same training has the same output; MLflow has the seconds."""
    return {name: value for name, value in record.items() if name != "seconds"}


def _refuse_others(work: Path, chains: Collection[str]) -> None:
    """Say which unfinished trainings of this stage are not gone on with: other params, data or teacher made them."""
    ours = [chain[:SHOWN_DIGITS] for chain in chains]
    for folder in sorted(work.glob("*")):
        if folder.name not in ours:
            print(
                f"{folder}: this unfinished training is refused: expected fingerprint {' or '.join(ours)} (of the "
                f"present params and data), found {folder.name}; training begins anew",
                flush=True,
            )


def _load_initial_weights(
    path: Path | None, model: CenterNet, classes: Sequence[str], report_file: Path
) -> dict[str, str] | None:
    """Fill `model` from `path` and say what came from it; returns the file's name and digest."""
    report_file.unlink(missing_ok=True)
    if path is None:
        return None
    report = load_pretrained(model, path, classes)
    init = {"file": str(path), "sha256": file_digest(path)}
    print(report, flush=True)
    write_json(report_file, init | report.document())
    return init


def _fit_phase(
    name: str,
    student: CenterNet,
    phase: Phase,
    params: Params,
    work: Path,
    chain: str,
    teacher_file: Path | None,
    log_epoch: Any,
    *,
    distill_unlabelled: bool,
    pseudo_labels: PseudoLabels | None,
) -> FitResult:
    folder = paths.PREPARED / DATA_SETS[name]
    return fit(
        student,
        criterion_for(DATA_SETS[name], params.loss),
        TrainConfig(
            epochs=phase.epochs,
            batch_size=phase.batch_size,
            schedule=Schedule(phase.learning_rate, phase.milestones, phase.warmup_steps),
            seed=params.seed,
            workers=params.hardware.workers,
            precision=params.hardware.precision,
            devices=params.hardware.devices,
            ema_decay=phase.ema_decay,
            distill_epochs=phase.distill_epochs if isinstance(phase, DistillPhase) else 0,
            distill_unlabelled=distill_unlabelled,
            rare_classes=params.sampling.rare_classes,
        ),
        TrainingData(
            PreparedSet(folder, "train"),
            PreparedSet(folder, "val"),
            params.input_size.hw,
            Augmentation(**params.augment.model_dump()),
            pseudo_labels.frames if pseudo_labels else None,
        ),
        work=work,
        fingerprint=chain,
        teacher=load_model(teacher_file).model if teacher_file else None,
        on_epoch=log_epoch,
    )


def _pseudo_labels(data_set: str) -> PseudoLabels:
    """What the stage pseudo_label wrote, or a person made of it; whatever is wrong with it is printed."""
    path = pseudo_labels_file(data_set)
    found = read_pseudo_labels(path, PreparedSet(paths.PREPARED / data_set, "train"))
    for finding in found.findings:
        print(
            f"{path}: {finding.kind}, {finding.action}: {finding.item}: expected {finding.expected}, "
            f"found {finding.found}"
        )
    return found


def _account(data_set: str, use: str, pseudo_labels: PseudoLabels | None) -> dict[str, Any]:
    """How many unlabelled training frames there were and what became of them."""
    frames = len(unlabelled_frames(PreparedSet(paths.PREPARED / data_set, "train")))
    used = len(pseudo_labels.frames) if pseudo_labels else frames if use == "distill" else 0
    print(f"{data_set}: {frames} unlabelled training frames, mode {use}: {used} used, {frames - used} skipped")
    findings = [asdict(finding) for finding in pseudo_labels.findings] if pseudo_labels else []
    return {"mode": use, "frames": frames, "used": used, "skipped": frames - used, "findings": findings}


def _sampling(
    name: str, sampling: Sampling, pseudo_labels: PseudoLabels | None, tracker: tracking.Tracker
) -> dict[str, Any]:
    """What drawing rare classes' frames more often does to the classes, in print, in MLflow and for training.json."""
    if not sampling.rare_classes:
        return {"rare_classes": 0.0}
    samples = TrainingSamples(
        PreparedSet(paths.PREPARED / DATA_SETS[name], "train"),
        input_size=(32, 32),  # no picture is read
        augmentation=None,
        seed=0,
        pseudo_labels=pseudo_labels.frames if pseudo_labels else None,
    )
    labels, classes = samples.labels(), samples.prepared.classes
    factors = repeat_factors(labels, len(classes), sampling.rare_classes)
    shares = dict(zip(classes, class_shares(labels, len(classes), factors), strict=True))
    for class_name, share in shares.items():
        print(
            f"{DATA_SETS[name]} {class_name}: {share.boxes:.2%} → {share.sampled_boxes:.2%} of the boxes, "
            f"in {share.frames:.2%} → {share.sampled_frames:.2%} of the frames"
        )
        tracker.log({f"{class_name}/{key}": value for key, value in asdict(share).items()}, prefix=f"{name}/sampling/")
    return {"rare_classes": sampling.rare_classes, "classes": {key: asdict(share) for key, share in shares.items()}}


def criterion_for(data_set: str, loss: Loss, *, balanced: bool = True) -> Criterion:
    """The losses with the λ's of params; with equation 4's class weights of `data_set` where `balanced`."""
    weights = json.loads(paths.CLASS_WEIGHTS.read_text(encoding="utf-8"))[data_set]["weights"]
    return Criterion(
        list(weights.values()) if balanced else None,
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


def _fingerprint(
    name: str, phase: Phase, params: Params, before: str, teacher_file: Path | None, unlabelled: str
) -> str:
    """Of everything that the phase's result depends on, the phase before it included."""
    return fingerprint(
        {
            "before": before,
            "phase": phase.model_dump(mode="json"),
            "seed": params.seed,
            "input_size": params.input_size.model_dump(),
            "augment": params.augment.model_dump(),
            "loss": params.loss.model_dump(),
            "data": folder_digest(paths.PREPARED / DATA_SETS[name]),
            "class_weights": file_digest(paths.CLASS_WEIGHTS),
            "teacher": file_digest(teacher_file) if teacher_file else None,
            "unlabelled": unlabelled,
            "sampling": params.sampling.model_dump(),
            "pseudo_labels": file_digest(pseudo_labels_file(DATA_SETS[name])) if unlabelled == MODE else None,
        }
    )
