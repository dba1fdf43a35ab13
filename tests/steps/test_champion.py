"""Retraining from the champion: whose weights are fetched, and what the student makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
import yaml

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet, image_digests
from mobile_centernet.errors import UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import CHAMPION_INIT, Params
from mobile_centernet.mlops.registry.published import Channel, trust_repository
from mobile_centernet.mlops.registry.registry import CHAMPION, Registry, RegistryError
from mobile_centernet.mlops.stages import ListedParams, listed_params
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.variants import build_model
from steps.__main__ import load_stage
from steps.register import register
from tests.helpers import registry_project as small
from tests.helpers.call_counts import ROOT
from tests.helpers.trust import Fleet

SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text())
LISTED = listed_params(ROOT / "dvc.yaml")
INPUT = (64, 96)
PHASE = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "milestones": [], "warmup_steps": 0, "ema_decay": 0.0}


def run(stage: str, params: Params) -> None:
    """Held to the params that dvc.yaml lists."""
    load_stage(stage)(cast(Params, ListedParams(params, stage, LISTED[stage])))


def from_champion(params: Params) -> Params:
    student = params.distill_student.model_copy(update={"init": CHAMPION_INIT})
    return params.model_copy(update={"distill_student": student})


def test_the_signed_champion_s_weights_are_fetched_whatever_the_registry_says(
    tmp_path: Path, registry_project: Path
) -> None:
    Fleet(tmp_path / "made")
    fleet = Fleet.copy(tmp_path / "made", tmp_path / "fleet")
    name = "started-from"
    trust = {"repository": str(fleet.served), "root": str(fleet.root_file), "keys": fleet.places}
    params = from_champion(small.write_params(name, trust, min_ap50={"default": 0.0}))
    registry = Registry(name)
    for number in (1, 2):
        small.export_model(small.GOOD, f"{name} {number}")
        register(params)
    with pytest.raises(RegistryError, match=r"expects a champion to start from: promote a version .* found none"):
        run("fetch_champion", params)
    repository = trust_repository(params)
    assert repository is not None
    signed = Channel.read(repository, name, CHAMPION).stage(1, gate="0" * 64, approver=None, share=1.0)
    assert not signed.sign(repository)
    signed.publish(repository)
    registry.set_alias(CHAMPION, 2)  # nobody has signed that
    run("fetch_champion", params)
    assert (paths.CHAMPION / paths.MODEL_FILE).read_text() == f"{name} 1"
    assert json.loads((paths.CHAMPION / "champion.json").read_text())["version"] == 1
    seen = json.loads((paths.CHAMPION / paths.SEEN_FILE).read_text())
    prepared = PreparedSet(paths.PREPARED / "ivslab", "train")
    assert set(image_digests(prepared.root, prepared.coco).values()) < set(seen["pictures"])

    run("fetch_champion", params.model_copy(update={"distill_student": Params.model_validate(SHIPPED).distill_student}))
    assert [path.name for path in paths.CHAMPION.iterdir()] == ["champion.json"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Prepared sets of six labelled frames, a teacher, a champion that has seen the first three, two with labels."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing here is about MLflow
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    rng = np.random.default_rng(0)
    classes = tuple(SHIPPED["classes"])
    frames = []
    for number in range(8):
        path = tmp_path / f"raw/{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (*INPUT, 3), np.uint8))
        split, boxes = "train" if number < 6 else "val", (Box("vehicle", (20, 10, 60, 40)),)
        frames.append(Frame(path, str(number), str(number), split, FrameState.LABELLED, boxes))
    for name in paths.DATA_SETS:
        class_map = ClassMap(classes, {each: each for each in classes})
        raw = RawSet(tmp_path / "raw", tuple(frames), ())
        prepare(raw, frames, class_map, paths.PREPARED / name, max_size=INPUT, workers=1, progress=False)
        paths.CLASS_WEIGHTS.mkdir(exist_ok=True)
        (paths.CLASS_WEIGHTS / f"{name}.json").write_text(json.dumps({"weights": dict.fromkeys(classes, 1.0)}))
    for seed, folder in enumerate((paths.CHAMPION, paths.TEACHER)):
        torch.manual_seed(seed)
        folder.mkdir(parents=True)
        model = build_model("hrnet_w16_lite", len(classes))
        save_model(model, folder / paths.MODEL_FILE, classes=classes, input_size=INPUT)
    prepared = PreparedSet(paths.PREPARED / "ivslab", "train")
    digests = [image_digests(prepared.root, prepared.coco)[prepared.frame(i).id] for i in range(3)]
    (paths.CHAMPION / paths.SEEN_FILE).write_text(json.dumps({"pictures": digests, "unlabelled": digests[2:]}))
    student: dict[str, Any] = {
        **SHIPPED["distill_student"],
        "model": "hrnet_w16_lite",
        "init": "champion",
        "replay": 0.5,
    }
    student["finetune"] = {**student["finetune"], **PHASE, "distill_epochs": 1, "distill_from": 0}
    tree = {**SHIPPED, "distill_student": student, "input_size": {"height": INPUT[0], "width": INPUT[1]}}
    return Params.model_validate({**tree, "hardware": {**SHIPPED["hardware"], "precision": "fp32"}})


def test_the_student_goes_on_from_the_champion_and_replays_what_that_has_learned(project: Params) -> None:
    champion = (paths.CHAMPION / paths.MODEL_FILE).read_bytes()
    run("pretrain_student", project)
    assert (paths.STUDENT_PRETRAINED / paths.MODEL_FILE).read_bytes() == champion
    assert (paths.STUDENT_PRETRAINED / paths.HISTORY_FILE).read_text() == ""
    run("distill_student", project)
    facts = json.loads((paths.STUDENT / "training.json").read_text())
    assert facts["replay"] == {"old": 2, "share": 0.5}  # the third was seen, but not with labels
    before, after = (load_model(folder / paths.MODEL_FILE).model for folder in (paths.CHAMPION, paths.STUDENT))
    moved = [float((a - b).detach().abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert 0 < max(moved) < 0.05  # two steps of Adam away


def test_a_champion_that_is_another_network_is_refused(project: Params) -> None:
    student = project.distill_student.model_copy(update={"model": "hrnet_w16"})
    with pytest.raises(UserError, match="expected a champion that is a hrnet_w16, found a hrnet_w16_lite"):
        run("pretrain_student", project.model_copy(update={"distill_student": student}))
    assert not paths.STUDENT_PRETRAINED.exists()


def test_a_replay_without_a_champion_is_refused() -> None:
    tree = {**SHIPPED, "distill_student": {**SHIPPED["distill_student"], "replay": 0.5}}
    with pytest.raises(ValueError, match="replay below 1 needs init: champion, found init: None"):
        Params.model_validate(tree)
