"""params.yaml and its overlays load; what is wrong in one is said in one sentence."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mobile_centernet.errors import UserError
from mobile_centernet.mlops.params import Ablation, load_params
from mobile_centernet.models.variants import MODELS
from tests.helpers.shipped import shipped_params

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("overlays", [(), ("paper",)])
def test_shipped_settings_hold_the_papers_method(overlays: tuple[str, ...]) -> None:
    params = shipped_params(*overlays)
    assert params.classes == ("vehicle", "pedestrian", "scooter", "bicycle")
    assert (params.loss.alpha, params.loss.beta) == (2, 4)
    assert (params.loss.lambda_size, params.loss.lambda_offset) == (0.1, 1)
    assert (params.loss.lambda_pixelwise, params.loss.lambda_pairwise) == (0.1 if overlays else 100, 10)
    assert (params.class_weights.w_max, params.class_weights.gamma) == (10, 0.75)
    assert params.distill_student.finetune.learning_rate == 1e-3
    assert params.subsample_ivslab.stride == 10
    teacher = "hrnet_w32" if overlays else "hrnet_w32_lite"
    assert (params.train_teacher.model, params.distill_student.model) == (teacher, "hrnet_w16")
    if overlays:
        for phase in (params.distill_student.pretrain, params.distill_student.finetune):
            assert (phase.distill_epochs, phase.distill_from) == (phase.epochs, 0)
    assert (params.train_teacher.init, params.distill_student.init) == (None, None)


def test_the_papers_recipe() -> None:
    params = shipped_params("paper")
    assert params.input_size.hw == (320, 576)
    for phase in (params.train_teacher.pretrain, params.distill_student.finetune):
        assert phase.epochs == 60
        assert phase.milestones == (45, 55)


def test_the_street_photos_ablation_is_the_papers_method_on_seven_classes_at_a_size_for_one_core() -> None:
    params, paper = shipped_params("street"), shipped_params("paper")
    assert len(params.classes) == 7
    assert params.class_weights == paper.class_weights
    assert params.augment == paper.augment.model_copy(update={"shift": 0.2})
    assert params.input_size.hw == (192, 320)
    section = params.ablation
    assert (section.data_set, section.split, section.seeds, section.pretrain) == ("bdd100k", "test", (1, 2), None)
    names = ["teacher", "student", "student_balanced", "student_balanced_distilled"]
    assert [row.name for row in section.rows] == names
    recipe = section.recipe(section.rows[-1])
    assert (recipe.epochs, recipe.batch_size, recipe.distill_epochs, recipe.ema_decay) == (40, 8, 40, 0.99)
    assert recipe.milestones == (30, 37)  # a tenth from 75 % and from 92 % on


@pytest.mark.parametrize("overlays", [("students",), ("street", "students_street")])
def test_overlays_compare_small_students_with_the_distilled_hrnet_w16(overlays: tuple[str, ...]) -> None:
    ablation = shipped_params(*overlays).ablation
    assert {row.model for row in ablation.rows} <= set(MODELS)
    models = {row.name: row.model for row in ablation.distilled}
    assert {"hrnet_w16", "hrnet_w16_lite", "hrnet_w16_nano", "hrnet_w16_nano_wide"} == set(models.values())
    assert {row.baseline for row in ablation.rows} - {None} <= {row.name for row in ablation.rows}
    assert {ablation.recipe(row).epochs for row in ablation.rows} == {ablation.training.epochs}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("jpeg_quality:", "jpeg_qualty:", "store.jpeg_qualty: unknown key"),
        ("seed: 2020", "seed: soon", "seed: Input should be a valid integer"),
        ("width: 192", "width: 190", "multiples of 32, found 190x96"),
        ("source: sample\n", "source: /data/bdd100k\n", "source: Input should be 'sample', 'folder' or 'urls'"),
        ("init:  ", "init: 5  ", "train_teacher.init: Input is not a valid path"),
        ("seed: 2020", "seed: [", "expected YAML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as raised:
        load_params(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)


EXAMPLES = re.findall(
    r"^```yaml\n(?:# params.yaml\n)?(fetch_.*?)^```", (ROOT / "docs/data.md").read_text(), re.M | re.S
)


@pytest.mark.parametrize("example", EXAMPLES, ids=["folder", "urls", "videos"])
def test_a_source_needs_what_the_manual_shows_and_no_more(tmp_path: Path, example: str) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    shown = yaml.safe_load(example.replace("<64 hexadecimal digits>", "a" * 64))
    if "fetch_field" in shown:  # its other keys say nothing about the footage
        shown["fetch_field"] = tree["fetch_field"] | shown["fetch_field"]
    path.write_text(yaml.safe_dump(tree | shown))
    load_params(path)


def test_synthetic_frames_from_the_field_belong_to_synthetic_footage_alone(tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["fetch_ivslab"] |= {"source": "folder", "path": "/data/crossings"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=r"fetch_field.source sample .*: expected none, folder or url where fetch_ivsl"):
        load_params(path)


@pytest.mark.parametrize("stage", ["fetch_bdd100k", "fetch_ivslab"])
def test_a_sample_without_its_size_is_named(tmp_path: Path, stage: str) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree[stage]["sample"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError, match=f"{stage}: .*source: sample needs the section `sample`"):
        load_params(path)


def test_initial_weights_are_a_path_or_null_and_have_to_be_there(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text.replace("init:", "init: weights/pose_hrnet_w32.pth", 1))
    assert load_params(path).train_teacher.init == Path("weights/pose_hrnet_w32.pth")
    path.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("  init:")))
    with pytest.raises(UserError, match=r"train_teacher\.init: Field required.*distill_student\.init: Field required"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no such file"):
        load_params(tmp_path / "params.yaml")


def shipped_ablation(**changes: object) -> Ablation:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())["ablation"]
    return Ablation.model_validate(tree | {"training": dict(TRAINING), "pretrain": None} | changes)


TRAINING = {
    "epochs": 20,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "milestones": [15, 18],
    "warmup_steps": 0,
    "ema_decay": 0.0,
    "distill_epochs": 20,
}
PLAIN = {"name": "plain", "model": "hrnet_w16", "balanced": True}


def test_a_row_of_the_ablation_that_trains_longer_keeps_the_shape_of_the_recipe() -> None:
    longer = PLAIN | {"name": "longer", "training": {"epochs": 30, "learning_rate": 2e-3}}
    taught = longer | {"name": "taught", "teacher": "teacher", "loss": {"lambda_pixelwise": 2.0}}
    ablation = shipped_ablation(students=[PLAIN, longer], distilled=[taught])
    rows = {row.name: ablation.recipe(row) for row in ablation.rows}
    assert (rows["plain"].epochs, rows["plain"].milestones, rows["plain"].distill_epochs) == (20, (15, 18), 0)
    assert (rows["longer"].epochs, rows["longer"].milestones, rows["longer"].learning_rate) == (30, (22, 27), 2e-3)
    assert (rows["longer"].distill_epochs, rows["taught"].distill_epochs) == (0, 30)
    assert ablation.rows[-1].loss.model_dump(exclude_none=True) == {"lambda_pixelwise": 2.0}


def test_the_shipped_ablation_measures_what_distillation_brings_to_the_shipped_pipeline() -> None:
    """Only then can the report say it: rows of other models or recipes are not compared with a run."""
    params = load_params(ROOT / "params.yaml")
    ablation, (taught, *_) = params.ablation, params.ablation.distilled
    assert (ablation.data_set, ablation.split) == ("ivslab", params.evaluate.split)
    assert (ablation.pretrain, ablation.recipe(taught)) == (
        params.distill_student.pretrain,
        params.distill_student.finetune,
    )
    teacher = next(row for row in ablation.teachers if row.name == taught.teacher)
    assert (taught.model, teacher.model) == (params.distill_student.model, params.train_teacher.model)
    plain = next(row for row in ablation.students if row.name == taught.baseline)
    assert (plain.model, plain.balanced, plain.training) == (taught.model, taught.balanced, taught.training)


@pytest.mark.parametrize("baseline", ["plain", "nobody"])
def test_a_baseline_is_another_row(baseline: str) -> None:
    with pytest.raises(ValidationError, match=f"row plain: expected another row as its baseline, found {baseline}"):
        shipped_ablation(students=[PLAIN | {"baseline": baseline}], distilled=[])
