"""The stage pseudo_label and the student after it, in all three modes, on a budget of seconds."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import unlabelled_frames
from mobile_centernet.errors import UserError
from mobile_centernet.evaluation.detect import detect_frames
from mobile_centernet.files import file_digest
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.variants import build_model
from steps.__main__ import main
from tests.helpers.programs import exit_code
from tests.helpers.shipped import CHOICES, shipped_params

ROOT = Path(__file__).resolve().parents[2]
TEACHERS = {paths.TRAININGS[each.name]: each / paths.MODEL_FILE for each in (paths.TEACHER_PRETRAINED, paths.TEACHER)}
INPUT = (64, 96)
CLASSES = ("car", "bus")
UNLABELLED = {"bdd100k": 3, "ivslab": 2}
PHASE = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "milestones": [], "warmup_steps": 0, "ema_decay": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before have left: prepared sets with a few unlabelled frames, class weights, a teacher."""
    root = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(0)
    for name, unlabelled in UNLABELLED.items():
        frames = [frame(root / "raw", f"{name}-{i}", i, 4 + unlabelled, rng) for i in range(6 + unlabelled)]
        raw = RawSet(root / "raw", tuple(frames), ())
        class_map = ClassMap(CLASSES, {"car": "car", "bus": "bus"})
        prepare(raw, frames, class_map, root / paths.PREPARED / name, max_size=INPUT, workers=1, progress=False)
    (root / paths.CLASS_WEIGHTS).mkdir()
    for name in UNLABELLED:
        weights = {"weights": dict.fromkeys(CLASSES, 1.0)}
        (root / paths.CLASS_WEIGHTS / f"{name}.json").write_text(json.dumps(weights))
    for seed, file in enumerate(TEACHERS.values()):
        torch.manual_seed(seed)
        teacher = build_model("hrnet_w16_lite", len(CLASSES))
        with torch.no_grad():  # untrained, but not the same everywhere, and with boxes of some size
            teacher.heatmap_head.out.weight.mul_(20)
            teacher.size_head.out.bias.fill_(5)
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        save_model(teacher, root / file, classes=CLASSES, input_size=INPUT)
    shutil.copy(ROOT / "dvc.yaml", root)
    return root


def frame(folder: Path, name: str, i: int, train: int, rng: np.random.Generator) -> Frame:
    """The first four are labelled, the last two are for validation, those between are unlabelled."""
    image = rng.integers(0, 80, (*INPUT, 3), np.uint8)
    x, y = int(rng.integers(4, 40)), int(rng.integers(4, 24))
    cv2.rectangle(image, (x, y), (x + 39, y + 29), (230, 230, 230), -1)
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.jpg"), image)
    known = i < 4 or i >= train
    state, boxes = (
        (FrameState.LABELLED, (Box("car", (x, y, x + 40, y + 30)),)) if known else (FrameState.UNLABELLED, ())
    )
    return Frame(folder / f"{name}.jpg", name, name, "train" if i < train else "val", state, boxes)


def run(project: Path, stage: str, monkeypatch: pytest.MonkeyPatch, **unlabelled: object) -> int:
    """The stage as `python -m steps` runs it, held to the params that dvc.yaml lists for it."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["unlabelled"] |= unlabelled
    params["input_size"] = {"height": INPUT[0], "width": INPUT[1]}
    params["distill_student"] |= {
        "model": "hrnet_w16_lite",
        "pretrain": params["distill_student"]["pretrain"] | PHASE | {"distill_epochs": 0},
        "finetune": params["distill_student"]["finetune"] | PHASE | {"distill_epochs": 1, "distill_from": 0},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(project)
    with socket.socket() as listener:  # a tracking server that is not there: nothing here is about MLflow
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return exit_code(main, stage)


def document(project: Path, name: str) -> Any:
    return json.loads((project / paths.PSEUDO_LABELS / f"{name}.json").read_text())


def account(project: Path) -> dict[str, Any]:
    """Per data set, what became of the unlabelled frames: mode, frames, used, skipped."""
    summaries = {
        paths.TRAININGS[each.name]: json.loads((project / each / "training.json").read_text())
        for each in (paths.STUDENT_PRETRAINED, paths.STUDENT)
    }
    return {name: tuple(summary["unlabelled"].values())[:4] for name, summary in summaries.items()}


def train_student(project: Path, monkeypatch: pytest.MonkeyPatch, **unlabelled: object) -> int:
    """Both of its trainings; the first exit code that is not 0."""
    stages = ("pretrain_student", "distill_student")
    return next((code for stage in stages if (code := run(project, stage, monkeypatch, **unlabelled))), 0)


def best_scores(project: Path, name: str) -> list[float]:
    """The teacher's best score on each unlabelled frame, ascending."""
    teacher = load_model(project / TEACHERS[name])
    prepared = PreparedSet(project / paths.PREPARED / name, "train")
    found = detect_frames(prepared, TorchRunner(teacher.model), INPUT, unlabelled_frames(prepared))
    return sorted(float(one.scores.max()) for _, one in found)


def test_each_data_set_is_labelled_by_the_teacher_that_trained_on_it(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(made, "pseudo_label", monkeypatch, mode="pseudo") == 0
    for name, folder in {"bdd100k": "teacher_pretrained", "ivslab": "teacher"}.items():
        weights = made / "data/models" / folder / "model.safetensors"
        assert document(made, name)["info"]["teacher_sha256"] == file_digest(weights)


def test_pseudo_the_students_labels_are_the_teachers_boxes(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = best_scores(made, "bdd100k")
    assert scores[0] < scores[1] <= scores[2] < 1
    threshold = (scores[0] + scores[1]) / 2
    assert run(made, "pseudo_label", monkeypatch, mode="pseudo", score_threshold=threshold) == 0
    written = document(made, "bdd100k")
    assert written["info"]["teacher_sha256"] == file_digest(made / TEACHERS["bdd100k"])
    assert written["info"]["score_threshold"] == threshold
    assert (written["info"]["frames"], written["info"]["frames_without_a_box"]) == (3, 1)
    assert all(entry["score"] >= threshold for entry in written["annotations"])
    assert len(document(made, "ivslab")["images"]) == 2
    printed = capsys.readouterr().err + caplog.text
    assert "bdd100k train: 3 of 7 frames are unlabelled, mode pseudo" in printed
    assert "1 frames without such a box stay unlabelled and are skipped" in printed

    # A person takes one box away and gets one wrong.
    edited = document(made, "bdd100k")
    first = edited["annotations"][0] | {"bbox": [10, 10, 20, 20]}
    edited["annotations"] = [first, first | {"id": 2, "bbox": [1, 1]}]
    (made / paths.PSEUDO_LABELS / "bdd100k.json").write_text(json.dumps(edited))
    ivslab = len({entry["image_id"] for entry in document(made, "ivslab")["annotations"]})
    caplog.clear()
    assert train_student(made, monkeypatch, mode="pseudo", score_threshold=threshold) == 0
    assert account(made) == {"bdd100k": ("pseudo", 3, 1, 2), "ivslab": ("pseudo", 2, ivslab, 2 - ivslab)}
    printed = capsys.readouterr().err + caplog.text
    assert "bdd100k: 3 unlabelled training frames, mode pseudo: 1 used, 2 skipped" in printed
    assert "data/pseudo_labels/bdd100k.json: nan_box, quarantined: bdd100k-" in printed
    assert load_model(made / paths.STUDENT / paths.MODEL_FILE).classes == CLASSES


@pytest.mark.parametrize(
    ("mode", "pretrain", "finetune"),
    [("skip", ("skip", 3, 0, 3), ("skip", 2, 0, 2)), ("distill", ("skip", 3, 0, 3), ("distill", 2, 2, 0))],
)
def test_in_the_other_modes_the_files_say_so_and_the_student_is_trained(
    made: Path, monkeypatch: pytest.MonkeyPatch, mode: str, pretrain: tuple[object], finetune: tuple[object]
) -> None:
    assert run(made, "pseudo_label", monkeypatch, mode=mode) == 0
    for name in UNLABELLED:
        written = document(made, name)
        assert written["info"]["mode"] == mode
        assert not written["images"] and not written["annotations"]
    assert train_student(made, monkeypatch, mode=mode) == 0
    assert account(made) == {"bdd100k": pretrain, "ivslab": finetune}


def test_pseudo_labels_of_another_mode_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(made, "pseudo_label", monkeypatch, mode="skip") == 0
    assert train_student(made, monkeypatch, mode="pseudo") == 2
    assert "expected pseudo-labels, found a file of mode 'skip'; run the stage pseudo_label" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    shutil.copytree(made, project)
    save_model(
        build_model("hrnet_w16_lite", 2), project / TEACHERS["bdd100k"], classes=("bus", "car"), input_size=INPUT
    )
    assert run(project, "pseudo_label", monkeypatch, mode="pseudo") == 2
    assert "expected the classes ('car', 'bus'), found ('bus', 'car')" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("mode: distill", "mode: background", "unlabelled.mode: Input should be 'skip', 'distill' or 'pseudo'"),
        ("score_threshold: 0.5", "score_threshold: 50", "unlabelled.score_threshold: Input should be less than"),
    ],
)
def test_a_mistake_in_the_params_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert text.count(old) == 1
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=sentence):
        load_params(tmp_path / "params.yaml")


def test_distill_without_any_epoch_of_the_teacher_is_refused(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["unlabelled"]["mode"] = "distill"
    params["distill_student"]["pretrain"]["distill_epochs"] = 0
    params["distill_student"]["finetune"]["distill_epochs"] = 0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"unlabelled.mode distill needs a teacher: .* found 0 in both"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("overlays", CHOICES)
def test_unlabelled_frames_teach_on_the_sample_and_are_skipped_by_the_paper_s_recipe_and_on_real_photos(
    overlays: tuple[str, ...],
) -> None:
    skips = {"paper", "street"} & set(overlays)
    assert shipped_params(*overlays).unlabelled.mode == ("skip" if skips else "distill")
