"""A phase of training as params.yaml describes it, for the pipeline's networks and for the ablation's."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.data.training.pseudo_labels import PseudoLabels
from mobile_centernet.files import file_digest
from mobile_centernet.losses.criterion import PAPER_WEIGHTS, Criterion
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import DATA_FILES, fingerprint, folder_digest
from mobile_centernet.mlops.params import DistillPhase, Params, Phase
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import Schedule


def training_fingerprint(data_set: str, settings: Mapping[str, Any], files: Mapping[str, Path | None]) -> str:
    """Digest of all that a training's result depends on: images, boxes and settings, not code, nor reports on the data.

    Args:
        data_set: the prepared set that it trains on.
        settings: the params that dvc.yaml lists for it, see `stages.settings`.
        files: weights and labels that it starts from or learns from, by what they are; None: no such file.
    """
    facts = {
        "settings": settings,
        "data": folder_digest(paths.PREPARED / data_set, *DATA_FILES),
        "class_weights": file_digest(paths.CLASS_WEIGHTS / f"{data_set}.json"),
        "files": {name: file_digest(file) if file else None for name, file in files.items()},
    }
    return fingerprint(facts)


def fit_phase(
    student: CenterNet,
    data_set: str,
    phase: Phase,
    params: Params,
    *,
    seed: int,
    work: Path,
    fingerprint: str,
    teacher_file: Path | None = None,
    balanced: bool = True,
    distill_unlabelled: bool = False,
    rare_classes: float = 0.0,
    pseudo_labels: PseudoLabels | None = None,
    old: Collection[str] = (),
    replay: float = 1.0,
    on_epoch: Callable[[dict[str, float]], None],
) -> FitResult:
    """Train `student` in place on the prepared set `data_set`, with the settings of `phase` and `params`.

    Args:
        student: the network; afterwards it has the weights of the best epoch.
        data_set: its training split is trained on, its validation split chooses the best epoch.
        phase: epochs, batch size, learning rate and its schedule.
        params: of these input_size, augment, hardware and loss; what distillation weighs only with a teacher.
        seed: of everything random in this phase.
        work: folder of the checkpoints from which a killed training resumes.
        fingerprint: digest of everything that the result depends on.
        teacher_file: weights of the network to distill from.
        balanced: weight the focal loss by class (equation 4).
        distill_unlabelled: unlabelled frames train from the teacher alone.
        rare_classes: a class in fewer than this share of the frames is drawn more often; 0: every frame once.
        pseudo_labels: boxes of unlabelled frames, which train as labelled ones.
        old: names of frames that `student` has learned from already; an epoch draws a share of them, `replay`.
        on_epoch: receives every epoch's record.

    Raises:
        UserError: see `fit`.
    """
    class_weights = json.loads((paths.CLASS_WEIGHTS / f"{data_set}.json").read_text(encoding="utf-8"))["weights"]
    weights = {**PAPER_WEIGHTS, "size": params.loss.lambda_size, "offset": params.loss.lambda_offset}
    if teacher_file:  # without a teacher these make no difference, and the stage does not list them
        weights |= {"pixelwise": params.loss.lambda_pixelwise, "pairwise": params.loss.lambda_pairwise}
    criterion = Criterion(
        list(class_weights.values()) if balanced else None,
        alpha=params.loss.alpha,
        beta=params.loss.beta,
        weights=weights,
        kl_direction=params.loss.kl_direction if teacher_file else "student_teacher",
    )
    config = TrainConfig(
        **phase.model_dump(exclude={"learning_rate", "milestones", "warmup_steps", "distill_epochs", "distill_from"}),
        schedule=Schedule(phase.learning_rate, phase.milestones, phase.warmup_steps),
        seed=seed,
        workers=params.hardware.workers,
        precision=params.hardware.precision,
        devices=params.hardware.devices,
        checkpoint_every=params.hardware.checkpoint_every,
        distill_epochs=phase.distill_epochs if isinstance(phase, DistillPhase) else 0,
        distill_from=phase.distill_from if isinstance(phase, DistillPhase) else 0,
        distill_unlabelled=distill_unlabelled,
        rare_classes=rare_classes,
        replay=replay,
    )
    train, val = (PreparedSet(paths.PREPARED / data_set, split) for split in ("train", "val"))
    augmentation, pseudo = Augmentation(**params.augment.model_dump()), pseudo_labels.frames if pseudo_labels else None
    data = TrainingData(train, val, params.input_size.hw, augmentation, pseudo, old)
    return fit(
        student,
        criterion,
        config,
        data,
        work=work,
        fingerprint=fingerprint,
        teacher=load_model(teacher_file, data.train_set.classes).model if teacher_file else None,
        on_epoch=on_epoch,
        speeds=paths.WORK / "speed.json",
    )
