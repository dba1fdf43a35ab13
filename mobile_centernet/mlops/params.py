"""params.yaml as one frozen, typed tree. The only reader of that file."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mobile_centernet.data.download.remote import check_address
from mobile_centernet.errors import UserError

CHAMPION_INIT = Path("champion")
"""As distill_student.init: not a file, but the champion."""

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(Section):
    """An image's size in pixels, at most or exactly."""

    width: Positive = Field(description="pixels")
    height: Positive = Field(description="pixels")

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width), the order of the code."""
        return (self.height, self.width)


class Sample(Section):
    """What the generator renders."""

    seed: int = Field(default=2020, description="of the generator; footage does not change with the pipeline's seed")


class Bdd100kSample(Sample):
    """How much of BDD100K's layout the generator renders."""

    train_frames: Positive = Field(description="frames, each of a clip of its own")
    val_frames: Positive = Field(description="frames, each of a clip of its own")


class IvslabSample(Sample):
    """How much of ivslab's layout the generator renders."""

    videos: Positive = Field(description="clips")
    frames_per_video: Positive = Field(description="frames, at 10 a second")
    test_frames: Positive = Field(description="frames of the flat, unlabelled test set")


class FieldSample(Sample):
    """How much of what devices send the generator renders."""

    frames: Positive = Field(description="frames, each of a clip of its own, without labels")


class ArchiveEntry(Section):
    """A zip or tar (plain, gz, bz2, xz) elsewhere. Credentials never stand here: ~/.netrc or variables have them."""

    url: str = Field(description="https://, s3://, gs://, file:// ...; $NAME stands for an environment variable")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="the file's, lower case hexadecimal")]
    token_env: str | None = Field(default=None, description="the variable that holds a bearer token, if one is needed")
    size: Positive | None = Field(default=None, description="the file's, in bytes: nothing longer is fetched")

    @field_validator("url")
    @classmethod
    def _holds_no_credentials(cls, url: str) -> str:
        check_address(url)  # a UserError leaves pydantic as it is; a ValueError's message would repeat the address
        return url


class Source(Section):
    """Where raw footage comes from."""

    path: Path = Field(
        description="folder, videos: the folder to read; sample: the generator's code; urls: the file that "
        "`python -m steps.refresh` writes. The stage is re-run when it changes."
    )
    linked: Path = Field(
        default=Path("data/upstream/no_links.txt"),
        description="folder that holds what links inside `path` to other folders lead to; DVC watches it, too",
    )
    archives: tuple[ArchiveEntry, ...] = Field(default=(), description="for urls: what is fetched and unpacked")
    format: Literal["auto", "bdd100k", "ivslab", "coco", "yolo"] = Field(
        default="auto", description="how the images and labels of a folder or of archives lie; auto: its files tell"
    )
    keep_archives: bool = Field(default=True, description="whether .work/downloads keeps what has been unpacked")

    def _check(self, source: str, sample: Sample | None) -> None:
        if source == "sample" and sample is None:
            raise ValueError("source: sample needs the section `sample`, which says how much is rendered; found none")
        if (source == "urls") != bool(self.archives):
            raise ValueError(f"archives belong to source: urls, which needs at least one; found source: {source}")
        if source == "urls" and self.path.suffix != ".json":
            raise ValueError(f"path must be the .json file that `python -m steps.refresh` writes, found {self.path}")


class FetchBdd100k(Source):
    source: Literal["sample", "folder", "urls"] = Field(
        description="sample: rendered here; folder: your own, only read; urls: archives, fetched and unpacked"
    )
    sample: Bdd100kSample | None = Field(default=None, description="for sample: how much is rendered")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        self._check(self.source, self.sample)
        return self


class FrameSteps(Section):
    """Which frames of a video are kept."""

    frames: Positive | None = Field(default=None, description="every n-th frame")
    seconds: Annotated[float, Field(gt=0)] | None = Field(default=None, description="one frame per so many seconds")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.frames is None) == (self.seconds is None):
            raise ValueError("expected either frames or seconds")
        return self


class FetchIvslab(Source):
    source: Literal["sample", "folder", "urls", "videos"] = Field(
        description="as for BDD100K; videos: a folder of videos, which are cut into frames"
    )
    frame_step: FrameSteps = Field(default=FrameSteps(seconds=0.1), description="for videos: which frames are kept")
    sample: IvslabSample | None = Field(default=None, description="for sample: how much is rendered")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        self._check(self.source, self.sample)
        return self


class FetchField(Section):
    """Frames that devices sent (docs/field_training.md)."""

    source: Literal["none", "sample", "folder", "url"] = Field(
        description="none: no frames; sample: synthetic ones; folder: `path` holds them; url: a bucket, at `url`"
    )
    path: Path = Field(
        description="sample: the generator's code; folder: what devices sent; url: the .json file that "
        "`python -m steps.refresh` writes. The stage is re-run when it changes."
    )
    url: str | None = Field(description="for url: s3://bucket/folder, gs://... or what else fsspec knows")
    reviewed: Path = Field(
        description="folder below which the folders of `mobile-centernet label` lie; their reviewed frames train as "
        "labelled. DVC watches it"
    )
    sample: FieldSample | None = Field(description="for sample: how much is rendered")
    test_share: Fraction = Field(
        description="share of videos (device, camera, day) whose reviewed frames are tested on"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.source == "url") != (self.url is not None):
            raise ValueError(f"url belongs to source: url, which needs one; found source: {self.source}")
        if self.source == "sample" and self.sample is None:
            raise ValueError("source: sample needs the section `sample`, found none")
        if self.url is not None:
            check_address(self.url)
            if self.path.suffix != ".json":
                raise ValueError(
                    f"path must be the .json file that `python -m steps.refresh` writes, found {self.path}"
                )
        return self


class Subsample(Section):
    mode: Literal["stride", "distinct"] = Field(description="by number, or by how much the image has changed")
    stride: Positive = Field(description="stride: one of this many neighbouring frames is kept, per video")
    min_distance: Annotated[int, Field(ge=0, le=256)] = Field(
        description="bits of the perceptual hash: nearer frames are near-copies; distinct drops these, both count them"
    )


class Split(Section):
    """Shares of the training videos that are set aside, split by video."""

    val: Fraction = Field(description="share of videos that chooses the best epoch")
    test: Fraction = Field(description="share of videos that training never sees")
    own_val: Literal["val", "test"] = Field(
        default="val",
        description="what frames of the source's own validation split become; test: a share of the training videos "
        "has to choose the best epoch, so that these are scored once",
    )

    @model_validator(mode="after")
    def _leaves_a_val_split(self) -> Self:
        if self.own_val == "test" and not self.val:
            raise ValueError("own_val: test needs a share of training videos for val, found val: 0")
        return self


class Grouping(Section):
    """Which video and split a frame belongs to, where paths do not say it."""

    video_from: str | None = Field(
        description="regular expression with one group, the video, searched in the path of each image"
    )
    split_file: str | None = Field(
        description="CSV below the set's folder, lines of `name,split`, which overrules its folders"
    )

    @field_validator("video_from")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"expected one group in brackets, the video, found {groups}")
        return pattern


class Prepare(Grouping):
    class_map: dict[str, str | None] = Field(description="source category → class; null: known, without a class")
    unmapped: Literal["drop", "ignore"] = Field(description="what happens to categories without a class")
    split: Split


class Store(Section):
    max_size: Size = Field(
        description="training frames are shrunk towards this by whole factors, in either orientation"
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(description="JPEG quality, 1..100")


class ClassWeights(Section):
    """Equation 4."""

    w_max: Annotated[float, Field(ge=1)] = Field(description="W, the rarest class's weight")
    gamma: Annotated[float, Field(gt=0)] = Field(description="γ, how steeply rarity is weighted")


class InputSize(Size):
    """What the network sees."""

    @model_validator(mode="after")
    def _fits_the_body(self) -> Self:
        if self.width % 32 or self.height % 32:
            raise ValueError(f"width and height must be multiples of 32, found {self.width}x{self.height}")
        return self


class Augment(Section):
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(description="zoom's range")
    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(description="view centre's range, share of the frame's sides")
    flip: Annotated[float, Field(ge=0, le=1)] = Field(description="probability")
    colour: Fraction = Field(description="brightness, contrast, saturation gain ±")
    lighting: Annotated[float, Field(ge=0)] = Field(description="standard deviation of the PCA noise")


class Loss(Section):
    alpha: float = Field(description="α of the focal loss")
    beta: float = Field(description="β of the focal loss")
    lambda_size: float = Field(description="weight of the size term")
    lambda_offset: float = Field(description="weight of the offset term")
    lambda_pixelwise: float = Field(description="weight of pixel-wise distillation")
    lambda_pairwise: float = Field(description="weight of pair-wise distillation")
    kl_direction: Literal["student_teacher", "teacher_student"] = Field(description="KL(first‖second)")


class Unlabelled(Section):
    """What becomes of training frames about which nothing is known. None of them ever trains as background."""

    mode: Literal["skip", "distill", "pseudo"] = Field(
        description="skip: left out; distill: train the student by the teacher's maps alone; pseudo: by its boxes"
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] = Field(description="pseudo: the teacher's boxes from here on")


class Sampling(Section):
    """Which labelled training frames an epoch consists of. Its length stays the same."""

    rare_classes: Annotated[float, Field(ge=0, le=1)] = Field(
        description="a class in fewer than this share of the frames is drawn more often (LVIS); 0: every frame once"
    )


class Hardware(Section):
    precision: Literal["auto", "fp32", "bf16"] = Field(
        description="fp32: equal bytes on one machine; auto: bf16 where a short measurement finds it faster"
    )
    checkpoint_every: Positive = Field(
        default=1, description="epochs between two checkpoints from which a killed training resumes"
    )
    workers: Annotated[int, Field(ge=0)] = Field(description="processes that read and augment frames")
    devices: Positive = Field(
        description="GPUs of one machine (or processes, without any) that share every batch of a training"
    )


class Phase(Section):
    """One training run on one data set: Adam, the learning rate divided by ten at every milestone."""

    epochs: Positive = Field(description="epochs")
    batch_size: Positive = Field(description="frames")
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="Adam's learning rate")
    milestones: tuple[Positive, ...] = Field(description="epochs after which the rate is divided by ten")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(description="steps over which the rate rises linearly")
    ema_decay: Fraction = Field(description="of the weights' moving average, per step; 0: none")
    gradient_clip: Annotated[float, Field(ge=0)] = Field(default=0.0, description="largest norm; 0: not limited")
    accumulate: Positive = Field(default=1, description="batches whose gradients make one step")
    validate_every: Positive = Field(default=1, description="epochs between two scores on val; the last is scored, too")
    patience: Positive | None = Field(default=None, description="epochs without a better score that end the phase")


class DistillPhase(Phase):
    distill_epochs: Annotated[int, Field(ge=0)] = Field(description="epochs in which the teacher takes part")
    distill_from: Annotated[int, Field(ge=0)] = Field(default=0, description="the first of them, counted from 0")


class Trained(Section):
    """A model and what it starts from."""

    model: str = Field(description="a row of mobile_centernet.models.variants")
    init: Path | None = Field(description="file of initial weights, .safetensors, .pth or .pt; null: random ones")


class TrainTeacher(Trained):
    pretrain: Phase
    finetune: Phase


class DistillStudent(Trained):
    init: Path | None = Field(
        description="as the teacher's; or champion: the champion's weights, in place of a pretraining"
    )
    replay: Annotated[float, Field(gt=0, le=1)] = Field(
        description="with init: champion: share of the frames that the champion learned from in each epoch"
    )
    pretrain: DistillPhase
    finetune: DistillPhase

    @model_validator(mode="after")
    def _replays_what_was_learned(self) -> Self:
        if self.replay < 1 and self.init != CHAMPION_INIT:
            raise ValueError(f"replay below 1 needs init: champion, found init: {self.init}")
        return self


class Evaluate(Section):
    split: Literal["val", "test"] = Field(description="ivslab split that is scored")


class PrecisionLimits(Section):
    """How far one exported file may be from torch."""

    required: bool = Field(description="past a limit: true, the stage fails; false, this file is withdrawn")
    map50_drop: Annotated[float, Field(ge=0)] = Field(description="largest loss of mAP@0.5, 0..1")
    scores: Annotated[float, Field(ge=0)] | None = Field(default=None, description="largest difference of a score")
    boxes: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="largest difference of a coordinate, input pixels"
    )


class Calibration(Section):
    """How int8 finds its ranges; every method is tried, the best on validation frames is kept."""

    frames: Positive = Field(description="training frames, all classes in turn")
    methods: Annotated[tuple[Literal["minmax", "percentile", "entropy"], ...], Field(min_length=1)] = Field(
        description="entropy is many times slower than the others"
    )
    validation_frames: Positive = Field(description="frames of ivslab val on which the methods compete, at most")


class Precisions(Section):
    """Which files are exported; those left out are not."""

    fp32: PrecisionLimits
    fp16: PrecisionLimits | None = None
    int8: PrecisionLimits | None = Field(default=None, description="for TensorRT, and anything else")
    int8_cpu: PrecisionLimits | None = Field(default=None, description="fast on a CPU; not for TensorRT")

    @property
    def wanted(self) -> dict[str, PrecisionLimits]:
        """By name, in the order in which they are measured."""
        rules = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: rule for name, rule in rules.items() if rule is not None}


class Export(Section):
    precisions: Precisions
    calibration: Calibration
    parity_frames: Positive = Field(description="frames on which detections are compared one by one")
    tensorrt: Literal["auto", "required", "off"] = Field(description="auto: build where a CUDA device is")


class RowTraining(Section):
    """What one row changes in the ablation's `training`; milestones and taught epochs scale along with the epochs."""

    epochs: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    milestones: tuple[Positive, ...] | None = None
    ema_decay: Fraction | None = None
    distill_epochs: Annotated[int, Field(ge=0)] | None = None
    distill_from: Annotated[int, Field(ge=0)] | None = None


class RowLoss(Section):
    """What one row changes in the section `loss`."""

    lambda_pixelwise: float | None = None
    lambda_pairwise: float | None = None
    kl_direction: Literal["student_teacher", "teacher_student"] | None = None


class AblationRow(Section):
    """One line of the ablation's table."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = Field(description="the line's name and its folder's")
    model: str = Field(description="a row of mobile_centernet.models.variants")
    balanced: bool = Field(description="whether the focal loss is weighted by class (eq. 4)")
    baseline: str | None = Field(default=None, description="the row that its gain is measured against")
    init: Path | None = Field(default=None, description="file of initial weights; null: random ones")
    training: RowTraining = RowTraining()


class DistilledRow(AblationRow):
    teacher: str = Field(description="the name of one of `teachers`; that of the same seed teaches")
    loss: RowLoss = RowLoss()


class Ablation(Section):
    """The paper's Table 2 as an experiment of one's own: every row with every seed on one prepared set."""

    data_set: Literal["bdd100k", "ivslab"] = Field(description="prepared set; trained on train, best epoch by val")
    split: Literal["val", "test"] = Field(description="split that is scored, once per finished row")
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    pretrain: DistillPhase | None = Field(
        default=None, description="every row trains on the prepared set bdd100k first; null: it does not"
    )
    training: DistillPhase
    teachers: tuple[AblationRow, ...] = Field(description="rows that teach; trained from labels alone")
    students: tuple[AblationRow, ...] = Field(description="rows trained from labels alone")
    distilled: tuple[DistilledRow, ...] = Field(description="rows that are taught, too")

    @property
    def rows(self) -> tuple[AblationRow | DistilledRow, ...]:
        """All of them, in the table's order."""
        return (*self.teachers, *self.students, *self.distilled)

    def recipe(self, row: AblationRow) -> DistillPhase:
        """The row's own `training`: milestones and taught epochs stay where they are in it as its length changes."""
        changes = row.training.model_dump(exclude_none=True)
        longer = changes.get("epochs", self.training.epochs) / self.training.epochs
        changes.setdefault("milestones", [max(1, round(longer * epoch)) for epoch in self.training.milestones])
        for name in ("distill_epochs", "distill_from"):
            changes.setdefault(name, round(longer * getattr(self.training, name)))
        if not isinstance(row, DistilledRow):
            changes |= {"distill_epochs": 0, "distill_from": 0}
        return DistillPhase.model_validate(self.training.model_dump() | changes)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"expected every row's name once, found {', '.join(names)}")
        for row in self.distilled:
            if row.teacher not in {teacher.name for teacher in self.teachers}:
                raise ValueError(f"row {row.name}: expected a teacher among `teachers`, found {row.teacher}")
        for each in self.rows:
            self.recipe(each)  # what it changes must make a recipe
            if each.baseline is not None and each.baseline not in set(names) - {each.name}:
                raise ValueError(f"row {each.name}: expected another row as its baseline, found {each.baseline}")
        if self.pretrain and self.data_set == "bdd100k":
            raise ValueError("pretrain is on bdd100k: expected data_set ivslab beside it, found bdd100k")
        return self


class Report(Section):
    score_threshold: Annotated[float, Field(ge=0, le=1)] = Field(description="drawn and in the confusion matrix")


class Bundle(Section):
    """What a bundle tells devices. There is one where `trust` names a repository."""

    pictures: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="golden images, of the test set")
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={"default": 0.3}, description="least score worth showing, by class; `default` stands for all others"
    )
    latency_ms: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={"default": 200.0}, description="longest median time of an image on a device, ms, by device profile"
    )


class Register(Section):
    name: str = Field(description="registered model's name in MLflow")
    bundle: Bundle = Bundle()


class Canaries(Section):
    """Devices that follow the canary channel and report on its bundle."""

    healthy: Annotated[int, Field(ge=0)] = Field(default=0, description="least number that run it in good health")
    most_against: Annotated[int, Field(ge=0)] = Field(default=0, description="most that refused it or went back")
    devices: Path | None = Field(default=None, description="folder of the enrolled devices' keys, NAME.pub")


class Promotion(Section):
    """What a version must show before devices run it (`python -m steps.promote`)."""

    precision: Literal["fp32", "fp16", "int8", "int8_cpu"] = Field(
        description="the exported file that every version has, and that models:/NAME@champion opens"
    )
    also: tuple[Literal["fp32", "fp16", "int8", "int8_cpu"], ...] = Field(
        default=("fp16", "int8", "int8_cpu"), description="the others that devices run; scored where a version has them"
    )
    min_map50: Annotated[float, Field(ge=0, le=1)] = Field(description="least mAP@0.5, with or without a champion")
    min_ap50: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        description="least AP@0.5 by class; `default` stands for all others"
    )
    epsilon: Annotated[float, Field(ge=0)] = Field(
        description="how far below 0 the lower bound of challenger minus champion may lie, in mAP@0.5"
    )
    resamples: Positive = Field(description="draws of the paired bootstrap")
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        description="that the difference is above its lower bound"
    )
    max_mib: Annotated[float, Field(gt=0)] = Field(description="largest size of each scored file, MiB")
    max_latency_ms: Annotated[float, Field(gt=0)] = Field(
        description="longest median time per image on the machine that judges, ms; devices have their own"
    )
    min_unseen: Annotated[float, Field(gt=0, le=1)] = Field(
        description="least share of the test frames that the champion was not trained on; the others are left out"
    )
    approval: bool = Field(description="whether a person must agree, too (--approve-by NAME)")
    canaries: Canaries = Canaries()


class Retraining(Section):
    """What `python -m pipelines retraining` does besides."""

    publish: bool = Field(
        default=False, description="commit dvc.lock afterwards, `dvc push`, and git push where there is a remote"
    )


class Trust(Section):
    """The repository that devices read, and where the keys are that sign in it (docs/trust.md)."""

    repository: str | None = Field(
        description="folder or s3://BUCKET/FOLDER; null: nothing is signed, and no device takes anything"
    )
    root: Path = Field(description="the root.json that `mobile-centernet trust init` made; in git, and on devices")
    keys: dict[
        Literal["root", "targets", "bundles", "champion", "canary", "snapshot", "timestamp"], tuple[str, ...]
    ] = Field(
        description="by role: files (*.key), env:NAME, or a signer's URI (awskms:...); those not there are elsewhere"
    )


class Params(Section):
    """The whole file."""

    laid_over: tuple[str, ...] = Field(default=(), description="overlays of which values stand in it, in this order")
    seed: int
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    fetch_bdd100k: FetchBdd100k
    fetch_ivslab: FetchIvslab
    fetch_field: FetchField
    subsample_ivslab: Subsample
    prepare_bdd100k: Prepare
    prepare_ivslab: Prepare
    store: Store
    class_weights: ClassWeights
    input_size: InputSize
    augment: Augment
    loss: Loss
    unlabelled: Unlabelled
    sampling: Sampling
    hardware: Hardware
    train_teacher: TrainTeacher
    distill_student: DistillStudent
    evaluate: Evaluate
    export: Export
    report: Report
    register_: Register = Field(alias="register")
    trust: Trust
    promotion: Promotion
    retraining: Retraining = Retraining()
    ablation: Ablation


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: the file is missing, or see `parse_params`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected the pipeline's settings, found no such file") from error
    return parse_params(text, path)


def parse_params(text: str, path: Path) -> Params:
    """Check the text of params.yaml; `path` is named in errors.

    Raises:
        UserError: it is no YAML, or a key is unknown, missing or of the wrong kind; every such key is named with what
            was expected and found. Or unlabelled frames shall be distilled without a teacher.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: expected YAML, found: {error}") from error
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            is_unknown = problem["type"] == "extra_forbidden"
            what = "unknown key (misspelt?)" if is_unknown else f"{problem['msg']} (found {problem['input']!r})"
            lines.append(f"{where}: {what}")
        raise UserError(f"{path}: " + "; ".join(lines)) from error
    if params.fetch_field.source == "sample" and params.fetch_ivslab.source != "sample":
        raise UserError(
            f"{path}: fetch_field.source sample draws synthetic streets, and the student would learn from them beside "
            f"your footage: expected none, folder or url where fetch_ivslab.source is {params.fetch_ivslab.source}"
        )
    student = params.distill_student
    if params.unlabelled.mode == "distill" and not student.pretrain.distill_epochs + student.finetune.distill_epochs:
        raise UserError(
            f"{path}: unlabelled.mode distill needs a teacher: expected distill_epochs above 0 in "
            "distill_student.pretrain or .finetune, found 0 in both"
        )
    return params
