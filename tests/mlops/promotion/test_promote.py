"""Promotion and rollback on a real registry: what is scored, what moves, and being killed or disturbed at any point."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mobile_centernet.errors import DataError, ModelError, UserError
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.cli import promote as promote_command
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.promotion import promote as module
from mobile_centernet.mlops.promotion.promote import AUDIT, DECISION, DONE, LOCKED, PAGE, REJECTED, promote, rollback
from mobile_centernet.mlops.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, RegistryError
from steps.register import register
from tests.helpers import registry_project as small
from tests.helpers.programs import exit_code

pytestmark = pytest.mark.usefixtures("registry_project")
NO_CLASS_FLOOR = {"min_ap50": {"default": 0.0}}


def registered(name: str, *students: tuple[tuple[float, ...], ...], **promotion: Any) -> Params:
    """Versions 1, 2, ... of a new model that find these boxes."""
    params = small.write_params(name, **NO_CLASS_FLOOR, **promotion)
    for number, boxes in enumerate(students, start=1):
        small.export_model(boxes, f"{name} {number}")
        register(params)
    return params


def decision() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DECISION.read_text())
    return document


def test_first_champion_then_a_better_one_then_back() -> None:
    params = registered("story", small.HALF)
    registry = Registry("story")
    assert promote(params).code == DONE
    assert registry.aliases() == {CHALLENGER: 1, CHAMPION: 1}
    facts = decision()["facts"]
    assert facts["champion"] is None and facts["scored"]["fp32"]["challenger"]["map50"] == pytest.approx(0.5)
    assert facts["scored"]["fp32"]["challenger"]["ap50"]["vehicle"] == pytest.approx(1.0)

    small.export_model(small.GOOD, "story 2")
    register(params)
    outcome = promote(params, approved_by="Ann")
    assert (outcome.code, "story version 2 was promoted" in outcome.message) == (DONE, True)
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    tags = registry.version(2).tags
    assert (tags["approved_by"], tags["replaced"]) == ("Ann", "1") and "promoted_at" in tags
    document = decision()
    assert document["decision"] == "promote" and document["failed"] == []
    assert document["facts"]["scored"]["fp32"]["difference"]["value"] == pytest.approx(0.5)
    assert document["facts"]["test_set"] == {
        "name": "ivslab test", "frames": 12, "scored": 12, "leaked": [], "left_out": []
    }  # fmt: skip
    assert "Version 2 may replace version 1" in PAGE.read_text()

    outcome = rollback(params, "Bob")
    assert outcome == module.PromotionOutcome(DONE, "story: version 1 is the champion again, 2 is withdrawn")
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1, PREVIOUS: 1}
    assert "rolled back by Bob" in registry.version(2).tags["withdrawn"]
    with pytest.raises(RegistryError, match=r"expected a previous version .* found .* version 1"):
        rollback(params, "Bob")

    assert promote(params).code == REJECTED  # a schedule must not bring back what a person withdrew
    assert decision()["failed"] == ["not withdrawn"]
    assert promote(params, approved_by="Bob").code == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    assert "withdrawn" not in registry.version(2).tags
    events = ["promoting", "promoted", "promoting", "promoted", "rolling back", "rolled back", "rejected"]
    assert small.audit_events() == [*events, "promoting", "promoted"]
    lines = [json.loads(line) for line in AUDIT.read_text().splitlines()]
    assert all(line["user"] and line["host"] and line["time"] and line["name"] == "story" for line in lines)
    assert (lines[3]["version"], lines[3]["champion_before"], lines[3]["by"]) == (2, 1, "Ann")


def test_the_decision_is_kept_in_mlflow(tmp_path: Path) -> None:
    import mlflow

    params = registered("kept", small.HALF)
    promote(params)
    run = Registry("kept").version(1).run_id
    (place,) = mlflow.MlflowClient().list_artifacts(run, "promotion")
    names = {Path(entry.path).name for entry in mlflow.MlflowClient().list_artifacts(run, place.path)}
    assert names >= {"decision.json", "index.html"}


@pytest.mark.parametrize(
    ("challenger", "promotion", "failed"),
    [
        (small.HALF, {}, ["better than the champion"]),
        (small.BLIND, {}, ["mAP@0.5 of fp32", "better than the champion", "lower bound of the difference, fp32"]),
        (small.SLOPPY, {"min_map50": 0.9}, ["mAP@0.5 of fp32"]),
        (small.SLOPPY, {"min_ap50": {"default": 0.0, "pedestrian": 0.9}}, ["AP@0.5 of pedestrian, fp32"]),
        (small.GOOD, {"max_mib": 1e-5}, ["size in MiB of fp32"]),
        (small.GOOD, {"max_latency_ms": 1e-5}, ["latency in ms per image of fp32"]),
        (small.GOOD, {"approval": True}, ["approval"]),
    ],
)
def test_a_rejected_challenger_changes_nothing(
    challenger: tuple[tuple[float, ...], ...],
    promotion: dict[str, Any],
    failed: list[str],
    request: pytest.FixtureRequest,
) -> None:
    name = f"rejected {request.node.callspec.id}".replace(":", "")
    params = registered(name, small.HALF, challenger)
    registry = Registry(name)
    registry.set_alias(CHAMPION, 1)
    params = small.write_params(name, **NO_CLASS_FLOOR | promotion)
    outcome = promote(params)
    assert (outcome.code, decision()["failed"]) == (REJECTED, failed)
    assert all(check in outcome.message for check in failed)
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1}
    assert small.audit_events() == ["rejected"]


def test_a_dry_run_judges_and_changes_nothing() -> None:
    params = registered("dry", small.HALF, small.GOOD)
    registry = Registry("dry")
    registry.set_alias(CHAMPION, 1)
    before = registry.aliases(), registry.version(2).tags
    outcome = promote(params, dry_run=True)
    assert (outcome.code, "would be promoted" in outcome.message) == (DONE, True)
    assert decision()["dry_run"] and "dry run" in PAGE.read_text()
    assert promote(params, which="1", dry_run=True).code == DONE  # the champion already
    registry.set_alias(CHAMPION, 2)
    assert promote(params, which="1", dry_run=True).code == REJECTED
    registry.set_alias(CHAMPION, 1)
    assert (registry.aliases(), registry.version(2).tags) == before
    assert small.audit_events() == []


def test_stored_scores_are_never_believed() -> None:
    """metrics.json and the tags say 0.5 of every model here; only the exported files know better."""
    params = registered("lies", small.HALF, small.BLIND)
    registry = Registry("lies")
    registry.set_alias(CHAMPION, 1)
    registry.tag(2, map50="0.999")
    assert promote(params).code == REJECTED
    assert decision()["facts"]["scored"]["fp32"]["challenger"]["map50"] < 0.01


def test_a_failed_parity_is_rejected() -> None:
    params = small.write_params("parity", **NO_CLASS_FLOOR)
    small.export_model(small.GOOD, "parity", parity={"int8": {"passed": False, "status": "failed"}})
    register(params)
    assert promote(params).code == REJECTED
    assert decision()["failed"] == ["parity of int8"]


def test_a_withdrawn_precision_is_no_failure() -> None:
    params = small.write_params("withdrawn-int8", **NO_CLASS_FLOOR)
    small.export_model(small.GOOD, "w", parity={"int8": {"passed": False, "status": "withdrawn"}})
    register(params)
    assert promote(params).code == DONE


def restore_test_set() -> None:
    small.write_set(paths.PREPARED / "ivslab", "test")


def test_test_videos_that_the_challenger_trained_on_are_a_leak() -> None:
    params = registered("leak", small.GOOD)
    videos = ["train-3.mp4", *(f"test-{i}.mp4" for i in range(1, 12))]
    try:
        small.write_set(paths.PREPARED / "ivslab", "test", videos=videos)
        assert promote(params).code == REJECTED
    finally:
        restore_test_set()
    assert decision()["failed"] == ["test material seen in training"]
    assert decision()["facts"]["test_set"]["leaked"] == ["ivslab/train-3.mp4"]


def test_the_same_picture_under_another_name_is_a_leak_too() -> None:
    params = registered("copies", small.GOOD)
    try:
        small.write_set(paths.PREPARED / "ivslab", "test", seed=7)
        small.write_set(paths.PREPARED / "ivslab", "train", seed=7)
        small.export_model(small.GOOD, "copies 2")
        register(params)
        assert promote(params).code == REJECTED
    finally:
        restore_test_set()
        small.write_set(paths.PREPARED / "ivslab", "train")
    assert decision()["failed"] == ["test material seen in training"]
    assert len(decision()["facts"]["test_set"]["leaked"]) == 12


def test_frames_that_the_champion_trained_on_are_left_out() -> None:
    """A test set that grew: some of its videos were training videos when the champion was made."""
    params = registered("grown", small.HALF)
    assert promote(params).code == DONE
    root = paths.PREPARED / "ivslab"
    try:
        small.write_set(root, "train", videos=[f"new-{i}.mp4" for i in range(12)])
        small.write_set(root, "test", videos=[f"train-{i}.mp4" if i < 4 else f"test-{i}.mp4" for i in range(12)])
        small.export_model(small.GOOD, "grown 2")
        register(params)
        assert promote(params).code == DONE
        found = decision()["facts"]["test_set"]
        assert (found["frames"], found["scored"], found["leaked"]) == (12, 8, [])
        assert found["left_out"] == [f"ivslab/train-{i}.mp4" for i in range(4)]

        small.write_set(root, "test", videos=[f"new-{i}.mp4" for i in range(12)])
        with pytest.raises(DataError, match="expected a frame of ivslab test that the champion never trained on"):
            promote(params, which="1")
    finally:
        restore_test_set()
        small.write_set(root, "train")


def test_another_export_of_the_champions_network_is_promoted_where_it_is_better_or_as_good() -> None:
    """A better int8 beside the same fp32, then a new file that finds the same; a worse one is not."""
    params = small.write_params("exports", **NO_CLASS_FLOOR)
    for boxes in (small.HALF, small.GOOD):
        small.export_model(small.GOOD, "exports", others={"int8": boxes}, weights="one")
        register(params)
        assert promote(params).code == DONE
    scored = decision()["facts"]["scored"]
    assert [scored[name]["difference"]["value"] for name in ("fp32", "int8")] == [0.0, pytest.approx(0.5)]
    assert "mAP@0.5 of int8: +0.500" in PAGE.read_text()  # the words of the chart
    small.export_model(small.GOOD, "exports again", others={"int8": small.GOOD}, weights="one")
    register(params)
    assert promote(params).code == DONE and Registry("exports").aliases()[CHAMPION] == 3
    small.export_model(small.GOOD, "exports worse", others={"int8": small.SLOPPY}, weights="one")
    register(params)
    assert promote(params).code == REJECTED
    assert decision()["failed"] == ["better than the champion", "lower bound of the difference, int8"]


def test_another_network_that_is_as_good_is_no_reason_to_change_and_none_may_lack_what_devices_run() -> None:
    params = small.write_params("networks", **NO_CLASS_FLOOR)
    for weights in ("one", "two"):
        small.export_model(small.GOOD, f"networks {weights}", others={"int8": small.GOOD}, weights=weights)
        register(params)
        code = promote(params).code
    assert (code, decision()["failed"]) == (REJECTED, ["better than the champion"])
    small.export_model(small.GOOD, "networks", weights="one")
    register(params)
    assert promote(params).code == REJECTED and decision()["failed"] == ["a file of int8"]
    assert promote(small.write_params("networks", **NO_CLASS_FLOOR, also=[])).code == DONE  # no device runs int8


def test_other_classes_cannot_be_compared() -> None:
    params = small.write_params("classes", **NO_CLASS_FLOOR)
    small.export_model(small.GOOD, "classes", classes=("vehicle", "person"))
    register(params)
    with pytest.raises(ModelError, match=r"expected the test set's classes vehicle, pedestrian, found vehicle, person"):
        promote(params)


def test_a_misspelt_class_floor_is_named() -> None:
    params = registered("misspelt", small.GOOD)
    params = small.write_params("misspelt", min_ap50={"default": 0.1, "pedestrain": 0.5})
    with pytest.raises(UserError, match="min_ap50: expected default, vehicle, pedestrian, found pedestrain"):
        promote(params)


def test_nothing_registered_is_said() -> None:
    with pytest.raises(RegistryError, match=r"expected the number or alias of a version, found 'challenger'.* none"):
        promote(small.write_params("empty"))
    with pytest.raises(RegistryError, match="expected a previous version other than the champion, found no aliases"):
        rollback(small.write_params("empty"), "Ann")


# --- disturbed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
def test_an_alias_that_somebody_moved_meanwhile_stops_it(alias: str) -> None:
    name = f"moved-{alias}"
    params = registered(name, small.HALF, small.BLIND, small.GOOD)
    registry = Registry(name)
    registry.set_alias(CHAMPION, 1)

    moved = pytest.raises(RegistryError, match=f"expected alias {alias} on version [13], found it on version 2")
    with small.while_judged(lambda: Registry(name).set_alias(alias, 2)), moved:
        promote(params)
    assert registry.aliases() == {CHALLENGER: 3, CHAMPION: 1} | {alias: 2}
    assert "promoted_at" not in registry.version(3).tags


def test_an_alias_that_somebody_moved_between_both_writes_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    params = registered("moved-late", small.HALF, small.BLIND, small.GOOD)
    registry = Registry("moved-late")
    registry.set_alias(CHAMPION, 1)
    write = Registry.set_alias

    def disturbed(self: Registry, alias: str, number: int) -> None:
        write(self, alias, number)
        if alias == PREVIOUS:
            write(self, CHAMPION, 2)

    monkeypatch.setattr(Registry, "set_alias", disturbed)
    with pytest.raises(RegistryError, match="expected alias champion on version 1, found it on version 2"):
        promote(params)
    assert registry.aliases()[CHAMPION] == 2


def test_two_promotions_at_once_one_is_locked_out() -> None:
    params = registered("twice", small.HALF, small.GOOD)
    registry = Registry("twice")
    registry.set_alias(CHAMPION, 1)
    held, go = Event(), Event()
    with small.while_judged(lambda: (held.set(), go.wait(60))):
        first = small.start(small.promote_once)
        assert held.wait(60)
        assert promote(params).code == LOCKED
        assert rollback(params, "Ann").code == LOCKED
        done = command("--dry-run")
        assert (done.returncode, done.stdout) == (LOCKED, "") and "another promotion is running" in done.stderr
        assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1}
        go.set()
        assert small.ended(first) == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    assert small.audit_events() == ["promoting", "promoted"]


# After 2 "promoting", 3 previous, 4 champion, 5 "promoted".
@pytest.mark.parametrize("kill_at", [2, 3, 4, 5])
def test_killed_at_any_point_there_is_one_champion_and_a_second_run_completes(kill_at: int) -> None:
    name = f"shot-{kill_at}"
    params = registered(name, small.HALF, small.GOOD)
    registry = Registry(name)
    registry.set_alias(CHAMPION, 1)
    assert small.ended(small.start(small.promote_and_die, kill_at)) == -9
    aliases = registry.aliases()
    assert aliases[CHAMPION] == (2 if kill_at >= 4 else 1)
    assert aliases.get(PREVIOUS) == (1 if kill_at >= 3 else None)
    assert promote(params).code == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    tags = registry.version(2).tags
    assert "promoted_at" in tags and tags["replaced"] == "1"
    assert small.audit_events()[-1] == "promoted"
    assert promote(params).message.endswith("is the champion already")


# After 1 "rolling back", 2 the tag, 4 champion.
@pytest.mark.parametrize("kill_at", [1, 2, 4])
def test_a_rollback_killed_at_any_point_is_completed_by_a_second_run(kill_at: int) -> None:
    name = f"back-{kill_at}"
    params = registered(name, small.HALF, small.GOOD)
    registry = Registry(name)
    registry.set_alias(CHAMPION, 1)
    promote(params)
    assert small.ended(small.start(small.rollback_and_die, kill_at)) == -9
    assert registry.aliases()[CHAMPION] == (1 if kill_at >= 4 else 2)
    if kill_at < 4:
        assert rollback(params, "Ann").code == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1, PREVIOUS: 1}
    assert "withdrawn" in registry.version(2).tags and "promoted_at" not in registry.version(2).tags
    assert "rolling back" in small.audit_events()


class DayBefore(datetime):
    """The wall clock of a machine that was set back."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "DayBefore":
        return super().now(tz) - timedelta(days=1)


def test_a_clock_that_was_set_back_changes_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are ordered by number and audit lines by place: nothing here looks at a time."""
    params = registered("clock", small.HALF)
    assert promote(params).code == DONE
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 24 * 3600)
    monkeypatch.setattr(module, "datetime", DayBefore)
    small.export_model(small.GOOD, "clock 2")
    register(params)
    registry = Registry("clock")
    first, second = registry.versions()
    assert (first.number, second.number) == (1, 2) and second.created < first.created
    assert promote(params).code == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    assert rollback(params, "Ann").code == DONE
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1, PREVIOUS: 1}
    assert promote(params).code == REJECTED and decision()["failed"] == ["not withdrawn"]
    events = ["promoting", "promoted", "promoting", "promoted", "rolling back", "rolled back", "rejected"]
    assert small.audit_events() == events


# --- the command ----------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As typed in a checkout's root, where `steps` lies; this project has none of its own."""
    typed = [sys.executable, "-m", "steps.promote", *arguments]
    env = {**os.environ, "PYTHONPATH": str(small.ROOT)}
    return subprocess.run(typed, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_promotes_rolls_back_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    registered("command", small.HALF, small.GOOD)
    Registry("command").set_alias(CHAMPION, 1)
    done = command("--version", "2", "--approve-by", "Ann")
    assert done.returncode == 0 and done.stdout.startswith("command version 2 was promoted: ")
    assert "unsigned: trust.repository names none" in done.stderr and done.stderr.count("\n") == 1

    capsys.readouterr()
    for code, said in ((0, "version 1 is the champion again"), (1, "error: promotion: command: expected a previous")):
        assert exit_code(promote_command, "--rollback", "--approve-by", "Ann") == code
        out, err = capsys.readouterr()
        lines = [line for line in (out + err).splitlines() if "unsigned: trust.repository" not in line]
        assert said in (err if code else out) and len(lines) == 1
    assert exit_code(promote_command, "--rollback", "--dry-run") == 2
