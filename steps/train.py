"""train_teacher, distill_student: two phases each, pretraining on BDD100K and fine-tuning on ivslab."""

import json
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.balance import class_shares, repeat_factors
from mobile_centernet.data.training.loader import TrainingSamples, unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import MODE, PseudoLabels, read_pseudo_labels
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import Params, Phase, Trained
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.mlops.training import fit_phase, training_fingerprint
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.pretrained import load_pretrained
from mobile_centernet.models.variants import build_model

SHOWN_DIGITS = 16
INIT_FILE = "init.json"

logger = logging.getLogger(__name__)


def train_teacher(params: Params) -> None:
    """The big network, from labels alone."""
    section = params.train_teacher
    _train("train_teacher", section, {"pretrain": section.pretrain, "finetune": section.finetune}, params, {}, "skip")


def distill_student(params: Params) -> None:
    """The small network, from labels and, where a phase says so, from the teacher of the same phase."""
    section = params.distill_student
    phases = {"pretrain": section.pretrain, "finetune": section.finetune}
    teachers = {name: paths.TEACHER / paths.PHASE_FILES[name] for name, phase in phases.items() if phase.distill_epochs}
    _train("distill_student", section, phases, params, teachers, params.unlabelled.mode)


def _train(
    stage: str,
    section: Trained,
    phases: Mapping[str, Phase],
    params: Params,
    teachers: Mapping[str, Path],
    unlabelled: str,
) -> None:
    """Train all phases one after the other, each from the weights of the one before it."""
    out = paths.MODELS / stage.split("_")[1]
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(params.seed)
    classes = PreparedSet(paths.PREPARED / "ivslab", "train").classes
    student = build_model(section.model, len(classes))

    init = None
    (out / INIT_FILE).unlink(missing_ok=True)
    if section.init is not None:
        report = load_pretrained(student, section.init, classes)
        init = {"file": str(section.init), "sha256": file_digest(section.init)}
        logger.info("%s", report)
        write_json(out / INIT_FILE, init | report.to_dict())

    chain = fingerprint({"model": section.model, "init": init and init["sha256"]})
    chains: dict[str, str] = {}
    common = {"seed": params.seed, "unlabelled": unlabelled, "sampling": params.sampling.model_dump()}
    for name, phase in phases.items():
        data_set, teacher_file = paths.PHASES[name], teachers.get(name)
        labels = file_digest(paths.PSEUDO_LABELS / f"{data_set}.json") if unlabelled == MODE else None
        more = {**common, "before": chain, "pseudo_labels": labels}
        chain = chains[name] = training_fingerprint(data_set, phase, params, teacher_file, **more)
    _refuse_others(paths.WORK / stage, chains.values())

    records: list[dict[str, Any]] = []
    summary: dict[str, Any] = {"model": section.model, "init": init}
    own = ("unlabelled",) if stage == "distill_student" else ()
    sections = ("seed", "input_size", "augment", "loss", *own, "sampling", "hardware", stage)
    with tracking.run(stage, params, sections) as tracker:
        for name, phase in phases.items():
            teacher_file, data_set = teachers.get(name), paths.PHASES[name]
            logger.info("%s: %s on %s, %d epochs", stage, name, data_set, phase.epochs)
            use = "skip" if unlabelled == "distill" and teacher_file is None else unlabelled
            summary[name], pseudo_labels = _describe_frames(name, use, params.sampling.rare_classes, tracker)
            offset = len(records)

            def log_epoch(record: dict[str, float], name: str = name, offset: int = offset) -> None:
                tracker.log(record, step=offset + int(record["epoch"]), prefix=f"{name}/")

            fitted = fit_phase(
                student,
                data_set,
                phase,
                params,
                seed=params.seed,
                work=paths.WORK / stage / chains[name][:SHOWN_DIGITS],
                fingerprint=chains[name],
                teacher_file=teacher_file,
                distill_unlabelled=use == "distill",
                rare_classes=params.sampling.rare_classes,
                pseudo_labels=pseudo_labels,
                on_epoch=log_epoch,
            )
            # Without seconds, so that the same training has the same output; MLflow has them.
            records += [
                {"phase": name, **{key: value for key, value in record.items() if "seconds" not in key}}
                for record in fitted.history
            ]
            best = {"best_map50": fitted.best_map50, "best_epoch": fitted.best_epoch}
            summary[name] |= {**best, "fingerprint": chains[name], "hardware": asdict(fitted.speed)}
            extra = {"fingerprint": chains[name], "data_set": data_set, "val_map50": f"{fitted.best_map50:.6f}"}
            file = out / paths.PHASE_FILES[name]
            save_model(student, file, classes=classes, input_size=params.input_size.hw, extra=extra)
            logger.info("%s: %s: best validation mAP@0.5 %.3f in epoch %d", stage, name, *best.values())
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(out / paths.HISTORY_FILE, lines.encode())
        write_json(out / "training.json", summary)
        tracker.finish(out.iterdir(), model_digest=file_digest(out / paths.MODEL_FILE))
    shutil.rmtree(paths.WORK / stage)


def _refuse_others(work: Path, chains: Collection[str]) -> None:
    """Name unfinished trainings of this stage that do not resume: other params, data or another teacher made them."""
    ours = [chain[:SHOWN_DIGITS] for chain in chains]
    for folder in sorted(work.glob("*")):
        if folder.name not in ours:
            logger.warning(
                "%s: this unfinished training is refused: expected fingerprint %s (of the present params and data), "
                "found %s; training begins anew",
                folder,
                " or ".join(ours),
                folder.name,
            )


def _describe_frames(
    phase: str, unlabelled: str, rare_classes: float, tracker: tracking.Tracker
) -> tuple[dict[str, Any], PseudoLabels | None]:
    """What a phase trains on, in the log, in MLflow and for training.json, and the pseudo-labels if it uses them.

    Args:
        phase: its name.
        unlabelled: what becomes of unlabelled frames: skip, distill or pseudo.
        rare_classes: see `fit_phase`.
        tracker: the stage's run.
    """
    data_set = paths.PHASES[phase]
    prepared = PreparedSet(paths.PREPARED / data_set, "train")
    pseudo_labels = None
    if unlabelled == MODE:
        path = paths.PSEUDO_LABELS / f"{data_set}.json"
        pseudo_labels = read_pseudo_labels(path, prepared)
        for each in pseudo_labels.findings:
            what = f"{each.kind}, {each.action}: {each.item}: expected {each.expected}, found {each.found}"
            logger.warning("%s: %s", path, what)
    frames = len(unlabelled_frames(prepared))
    used = len(pseudo_labels.frames) if pseudo_labels else frames if unlabelled == "distill" else 0
    skipped = frames - used
    findings = [asdict(finding) for finding in pseudo_labels.findings] if pseudo_labels else []
    message = "%s: %d unlabelled training frames, mode %s: %d used, %d skipped"
    logger.info(message, data_set, frames, unlabelled, used, skipped)
    summary = {"mode": unlabelled, "frames": frames, "used": used, "skipped": skipped, "findings": findings}
    if not rare_classes:
        return {"unlabelled": summary, "sampling": {"rare_classes": 0.0}}, pseudo_labels

    samples = TrainingSamples(
        prepared,
        input_size=(32, 32),  # no image is read
        augmentation=None,
        seed=0,
        pseudo_labels=pseudo_labels.frames if pseudo_labels else None,
    )
    labels, classes = samples.labels(), samples.prepared.classes
    factors = repeat_factors(labels, len(classes), rare_classes)
    shares = dict(zip(classes, class_shares(labels, len(classes), factors), strict=True))
    for class_name, share in shares.items():
        boxes = f"{share.boxes:.2%} → {share.sampled_boxes:.2%} of the boxes"
        within = f"in {share.frames:.2%} → {share.sampled_frames:.2%} of the frames"
        logger.info("%s %s: %s, %s", data_set, class_name, boxes, within)
        tracker.log({f"{class_name}/{key}": value for key, value in asdict(share).items()}, prefix=f"{phase}/sampling/")
    sampling = {"rare_classes": rare_classes, "classes": {key: asdict(share) for key, share in shares.items()}}
    return {"unlabelled": summary, "sampling": sampling}, pseudo_labels
