"""pretrain_teacher, train_teacher, pretrain_student, distill_student: one training each, BDD100K first, then ivslab."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mobile_centernet.data.store.prepared import PreparedSet, image_digests
from mobile_centernet.data.training.balance import class_shares, repeat_factors
from mobile_centernet.data.training.loader import TrainingSamples, labelled_frames, unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import MODE, PseudoLabels, read_pseudo_labels
from mobile_centernet.errors import UserError
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import CHAMPION_INIT, Params, Phase, Trained
from mobile_centernet.mlops.stages import RESULTLESS, listed_params, settings
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.mlops.training import fit_phase, training_fingerprint
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.pretrained import load_pretrained
from mobile_centernet.models.variants import build_model
from mobile_centernet.processes import Launch
from mobile_centernet.training.fit import FitResult

SHOWN_DIGITS = 16
INIT_FILE = "init.json"

logger = logging.getLogger(__name__)


def pretrain_teacher(params: Params) -> None:
    """The big network on BDD100K, from labels alone."""
    phase = params.train_teacher.pretrain
    _train("pretrain_teacher", params, phase, paths.TEACHER_PRETRAINED, start=params.train_teacher)


def train_teacher(params: Params) -> None:
    """The big network on ivslab, from labels alone."""
    phase = params.train_teacher.finetune
    _train("train_teacher", params, phase, paths.TEACHER, start=paths.TEACHER_PRETRAINED)


def pretrain_student(params: Params) -> None:
    """The small network on BDD100K, from labels and, in distill_epochs, from the teacher that was trained there.

    With `init: champion` nothing is trained: its weights are handed on as they are.
    """
    if params.distill_student.init == CHAMPION_INIT:
        file, out, name = paths.CHAMPION / paths.MODEL_FILE, paths.STUDENT_PRETRAINED, params.distill_student.model
        champion = load_model(file, PreparedSet(paths.PREPARED / "bdd100k", "train").classes).model
        if champion.name != name:
            raise UserError(f"distill_student.init: expected a champion that is a {name}, found a {champion.name}")
        if not Launch.of().leads:
            return
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        shutil.copyfile(file, out / paths.MODEL_FILE)
        (out / paths.HISTORY_FILE).touch()
        write_json(out / "training.json", {"model": name, "init": {"file": str(file), "sha256": file_digest(file)}})
        return
    phase = params.distill_student.pretrain
    teacher, start = paths.TEACHER_PRETRAINED if phase.distill_epochs else None, params.distill_student
    mode = params.unlabelled.mode
    _train("pretrain_student", params, phase, paths.STUDENT_PRETRAINED, start=start, teacher=teacher, unlabelled=mode)


def distill_student(params: Params) -> None:
    """The small network on ivslab, from labels and, in distill_epochs, from the teacher that was trained there."""
    phase = params.distill_student.finetune
    teacher, start = paths.TEACHER if phase.distill_epochs else None, paths.STUDENT_PRETRAINED
    mode, old = params.unlabelled.mode, list[str]()
    if params.distill_student.init == CHAMPION_INIT:
        seen = json.loads((paths.CHAMPION / paths.SEEN_FILE).read_text(encoding="utf-8"))
        learned = set(seen["pictures"]).difference(seen.get("unlabelled", ()))
        prepared = PreparedSet(paths.PREPARED / "ivslab", "train")
        digests = image_digests(prepared.root, prepared.coco)
        frames = [prepared.frame(i) for i in labelled_frames(prepared)]
        old = [frame.name for frame in frames if digests[frame.id] in learned]
        message = "the champion has learned from %d of %d labelled frames; an epoch draws a share of %g of these"
        logger.info(message, len(old), len(frames), params.distill_student.replay)
    _train("distill_student", params, phase, paths.STUDENT, start=start, teacher=teacher, unlabelled=mode, old=old)


def _train(
    stage: str,
    params: Params,
    phase: Phase,
    out: Path,
    *,
    start: Trained | Path,
    teacher: Path | None = None,
    unlabelled: str = "skip",
    old: Sequence[str] = (),
) -> None:
    """Write weights, history.jsonl and training.json of one training to `out`, and what init matched to init.json.

    Of a launcher's processes all train and the first one does the rest.

    Args:
        stage: its params in dvc.yaml are what MLflow shows and what an unfinished training must have in common with
            this one to be resumed.
        params: of the stage.
        phase: how long and how fast.
        out: one of paths.TRAININGS.
        start: what is trained: a new network, or the one in this folder.
        teacher: the folder of the network to distill from.
        unlabelled: what becomes of unlabelled frames: skip, distill or pseudo.
        old: names of frames that it has learned from already, of which an epoch draws a share.
    """
    data_set = paths.TRAININGS[out.name]
    classes = PreparedSet(paths.PREPARED / data_set, "train").classes
    launch = Launch.of()
    if launch.leads:
        out.mkdir(parents=True, exist_ok=True)
        (out / INIT_FILE).unlink(missing_ok=True)
    torch.manual_seed(params.seed)
    student, init = _start_of(start, classes, out / INIT_FILE if launch.leads else None)
    teacher_file = teacher / paths.MODEL_FILE if teacher else None
    listed, files = listed_params()[stage], {"start": Path(init["file"]) if init else None, "teacher": teacher_file}
    if old:
        files["seen"] = paths.CHAMPION / paths.SEEN_FILE
    files["pseudo_labels"] = paths.PSEUDO_LABELS / f"{data_set}.json" if unlabelled == MODE else None
    together = {"processes": launch.processes} if launch.processes > 1 else {}
    digest = training_fingerprint(data_set, settings(params, listed) | together, files)
    work = paths.WORK / stage / digest[:SHOWN_DIGITS]
    logger.info("%s: %s on %s, %d epochs", stage, student.name, data_set, phase.epochs)
    use = "skip" if unlabelled == "distill" and teacher is None else unlabelled
    frames, pseudo_labels = _describe_frames(data_set, use, params.sampling.rare_classes)
    training = partial(
        fit_phase,
        student,
        data_set,
        phase,
        params,
        seed=params.seed,
        work=work,
        fingerprint=digest,
        teacher_file=teacher_file,
        distill_unlabelled=use == "distill",
        rare_classes=params.sampling.rare_classes,
        pseudo_labels=pseudo_labels,
        old=old,
        replay=params.distill_student.replay if old else 1.0,
    )
    if not launch.leads:
        training(on_epoch=lambda record: None)
        return

    _refuse_others(work)
    with tracking.run(stage, params, (*listed, *RESULTLESS)) as tracker:
        for name, share in frames["sampling"].get("classes", {}).items():
            tracker.log({f"{name}/{key}": value for key, value in share.items()}, prefix="sampling/")
        fitted = training(on_epoch=lambda record: tracker.log(record, step=int(record["epoch"])))
        extra = {"fingerprint": digest, "data_set": data_set, "val_map50": f"{fitted.best_map50:.6f}"}
        save_model(student, out / paths.MODEL_FILE, classes=classes, input_size=params.input_size.hw, extra=extra)
        start_facts: dict[str, Any] = {"model": student.name, "init": init, "data_set": data_set}
        if old:
            start_facts["replay"] = {"old": len(old), "share": params.distill_student.replay}
        _describe_training(fitted, out, start_facts | frames, {"fingerprint": digest}, together)
        tracker.finish(out.iterdir(), model_digest=file_digest(out / paths.MODEL_FILE))
    shutil.rmtree(work.parent)


def _start_of(
    start: Trained | Path, classes: Sequence[str], init_file: Path | None
) -> tuple[CenterNet, dict[str, str] | None]:
    """The network to train, and the file that it starts from; what a new network took of one goes to `init_file`."""
    if isinstance(start, Path):
        file = start / paths.MODEL_FILE
        return load_model(file, classes).model, {"file": str(file), "sha256": file_digest(file)}
    student = build_model(start.model, len(classes))
    if not start.init:
        return student, None
    report = load_pretrained(student, start.init, classes)
    logger.info("%s", report)
    init = {"file": str(start.init), "sha256": file_digest(start.init)}
    if init_file:
        write_json(init_file, init | report.to_dict())
    return student, init


def _describe_training(
    fitted: FitResult, out: Path, before: dict[str, Any], after: dict[str, Any], together: dict[str, int]
) -> None:
    """Write history.jsonl and training.json, which is `before`, the best epoch, `after` and how it ran."""
    # Without seconds, so that the same training has the same output; MLflow has them.
    records = [{key: value for key, value in record.items() if "seconds" not in key} for record in fitted.history]
    write_atomically(out / paths.HISTORY_FILE, "".join(json.dumps(record) + "\n" for record in records).encode())
    best = {"best_map50": fitted.best_map50, "best_epoch": fitted.best_epoch}
    logger.info("%s: best validation mAP@0.5 %.3f in epoch %d", out, *best.values())
    write_json(out / "training.json", {**before, **best, **after, "hardware": asdict(fitted.speed) | together})


def _refuse_others(work: Path) -> None:
    """Name unfinished trainings of this stage that do not resume: other params, data or another teacher made them."""
    for folder in sorted(work.parent.glob("*")):
        if folder != work:
            logger.warning(
                "%s: this unfinished training is refused: expected fingerprint %s (of the present params and data), "
                "found %s; training begins again",
                folder,
                work.name,
                folder.name,
            )


def _describe_frames(data_set: str, unlabelled: str, rare_classes: float) -> tuple[dict[str, Any], PseudoLabels | None]:
    """What a training's frames are, in the log and for training.json, and the pseudo-labels if it uses them.

    Args:
        data_set: that it trains on.
        unlabelled: what becomes of unlabelled frames: skip, distill or pseudo.
        rare_classes: see `fit_phase`.
    """
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
    sampling = {"rare_classes": rare_classes, "classes": {key: asdict(share) for key, share in shares.items()}}
    return {"unlabelled": summary, "sampling": sampling}, pseudo_labels
