"""params.yaml as one frozen, typed tree. The only reader of that file."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mobile_centernet.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(Section):
    """A picture's size in pixels, at most or exactly."""

    width: Positive = Field(description="pixels")
    height: Positive = Field(description="pixels")

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width), the order of the code."""
        return (self.height, self.width)


class Bdd100kSample(Section):
    """How much of BDD100K's layout the generator renders."""

    train_frames: Positive = Field(description="frames, each of a clip of its own")
    val_frames: Positive = Field(description="frames, each of a clip of its own")


class IvslabSample(Section):
    """How much of ivslab's layout the generator renders."""

    videos: Positive = Field(description="clips")
    frames_per_video: Positive = Field(description="frames, at 10 a second")
    test_frames: Positive = Field(description="frames of the flat, unlabelled test set")


class Source(Section):
    """Where raw footage comes from."""

    source: Literal["sample", "folder"] = Field(description="sample: rendered here; folder: your own, only read")
    path: Path = Field(description="the folder to read; for `sample` the generator's code")


class FetchBdd100k(Source):
    sample: Bdd100kSample


class FetchIvslab(Source):
    sample: IvslabSample


class Subsample(Section):
    stride: Positive = Field(description="one of this many neighbouring frames is kept, per video")


class Split(Section):
    """Shares of the training videos that are set aside, split by video."""

    val: Fraction = Field(description="share of videos that chooses the best epoch")
    test: Fraction = Field(description="share of videos that training never sees")


class Prepare(Section):
    class_map: dict[str, str | None] = Field(description="source category → class; null: known, without a class")
    unmapped: Literal["drop", "ignore"] = Field(description="what happens to categories without a class")
    split: Split


class Store(Section):
    max_size: Size = Field(description="frames are shrunk to fit into this, in either orientation")
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


class Hardware(Section):
    precision: Literal["auto", "fp32", "bf16"] = Field(description="auto: bf16 where the processor has it")
    workers: Annotated[int, Field(ge=0)] = Field(description="processes that read and augment frames")


class Phase(Section):
    """One training run on one data set: Adam, the learning rate divided by ten at every milestone."""

    epochs: Positive = Field(description="epochs")
    batch_size: Positive = Field(description="frames")
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="Adam's learning rate")
    milestones: tuple[Positive, ...] = Field(description="epochs after which the rate is divided by ten")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(description="steps over which the rate rises linearly")
    ema_decay: Fraction = Field(description="of the weights' moving average, a step; 0: none")


class DistillPhase(Phase):
    distill_epochs: Annotated[int, Field(ge=0)] = Field(description="first epochs in which the teacher takes part")


class TrainTeacher(Section):
    model: str = Field(description="a row of mobile_centernet.models.registry")
    pretrain: Phase
    finetune: Phase


class DistillStudent(Section):
    model: str = Field(description="a row of mobile_centernet.models.registry")
    pretrain: DistillPhase
    finetune: DistillPhase


class Evaluate(Section):
    split: Literal["val", "test"] = Field(description="ivslab split that is scored")


class ParityLimits(Section):
    """How far an exported file may be from torch before the stage fails."""

    scores: Annotated[float, Field(ge=0)] = Field(description="largest difference of a score, 0..1")
    boxes: Annotated[float, Field(ge=0)] = Field(description="largest difference of a coordinate, input pixels")
    map50_drop: Annotated[float, Field(ge=0)] = Field(description="largest loss of mAP@0.5, 0..1")


class Export(Section):
    limits: ParityLimits
    parity_frames: Positive = Field(description="frames on which torch and ONNX are compared")
    tensorrt: Literal["auto", "required", "off"] = Field(description="auto: build where a CUDA device is")


class Report(Section):
    score_threshold: Annotated[float, Field(ge=0, le=1)] = Field(description="drawn and in the confusion matrix")


class Register(Section):
    name: str = Field(description="registered model's name in MLflow")


class Params(Section):
    """The whole file."""

    seed: int
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    fetch_bdd100k: FetchBdd100k
    fetch_ivslab: FetchIvslab
    subsample_ivslab: Subsample
    prepare_bdd100k: Prepare
    prepare_ivslab: Prepare
    store: Store
    class_weights: ClassWeights
    input_size: InputSize
    augment: Augment
    loss: Loss
    hardware: Hardware
    train_teacher: TrainTeacher
    distill_student: DistillStudent
    evaluate: Evaluate
    export: Export
    report: Report
    register_: Register = Field(alias="register")


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: the file is missing or no YAML, or a key is unknown, missing or of the wrong kind; every such
            key is named with what was expected and found.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected the pipeline's settings, found no such file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: expected YAML, found: {error}") from error
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        lines = [_sentence(dict(problem)) for problem in error.errors()]
        raise UserError(f"{path}: " + "; ".join(lines)) from error


def _sentence(problem: dict[str, object]) -> str:
    location = problem["loc"]
    where = ".".join(str(part) for part in location) if isinstance(location, tuple) else str(location)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key (misspelt?)"
    return f"{where}: {problem['msg']} (found {problem['input']!r})"
