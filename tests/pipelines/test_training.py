"""`python -m pipelines training` for real: a local ZenML stack of its own, on a toy checkout of four stages."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.graph import stage_graph
from tests.pipelines.toy import make_toy, ran, run

ORDERED = ["source", "left", "right", "score"]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A first run, in which a stage fails once; a second one; and what ZenML holds of both."""
    toy = make_toy(tmp_path_factory.mktemp("toy"))
    (toy / "fail-once").touch()
    first = run(toy, "-m", "pipelines", "training", "--settings", "settings.yaml")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    commands = ran(toy)
    status = run(toy, "-m", "dvc", "status").stdout
    idle = run(toy, "-m", "pipelines", "training", "--settings", "settings.yaml").stdout
    second = run(toy, str(Path(__file__).with_name("look.py")))
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    document = json.loads(second.stdout.splitlines()[-1])
    return {
        **document,
        "toy": toy,
        "commands": commands,
        "status": status,
        "idle": idle,
        "commands_of_second": ran(toy),
    }


def test_every_command_ran_once_although_one_failed_first(looked: dict[str, Any]) -> None:
    assert sorted(looked["commands"]) == sorted(ORDERED)
    assert (looked["toy"] / "data/reports/registration.json").is_file()
    assert not (looked["toy"] / "fail-once").exists()


def test_dvc_has_nothing_left_to_do(looked: dict[str, Any]) -> None:
    assert "up to date" in looked["status"]


def test_what_is_up_to_date_ends_before_the_steps(looked: dict[str, Any]) -> None:
    assert looked["idle"] == "training: nothing to do, every stage is up to date and its version registered\n"
    assert len(looked["runs"]) == 2  # neither of which is that one


def test_artifacts_have_names_and_runs_belong_to_the_model(looked: dict[str, Any]) -> None:
    for steps in looked["runs"]:
        named = {**{name: f"{name}_report" for name in ORDERED}, "register": "registration"}
        assert {name: step["artifact"] for name, step in steps.items()} == named
        assert steps["register"]["report"]["version"] == 7
    assert looked["models"] == ["mobile-centernet", "toy"] and all(looked["linked"])


def test_a_second_run_runs_no_command(looked: dict[str, Any]) -> None:
    assert looked["commands_of_second"] == []
    first, second = looked["runs"]
    assert [second[stage]["report"]["executed"] for stage in ORDERED] == [False] * 4
    assert all(first[stage]["report"]["executed"] for stage in ORDERED)


def test_the_compiled_pipeline_has_the_edges_of_dvc(looked: dict[str, Any]) -> None:
    edges = {stage: sorted(upstream) for stage, upstream in stage_graph(looked["toy"] / "dvc.yaml").items()}
    assert edges == {"source": [], "left": ["source"], "right": ["source"], "score": ["left", "right"]}
    for steps in looked["runs"]:
        assert {name: step["upstream"] for name, step in steps.items()} == edges | {"register": sorted(edges)}


def test_reports_hold_digests_and_metrics(looked: dict[str, Any]) -> None:
    first, second = looked["runs"]
    report = first["score"]["report"]
    assert set(report["outputs"]) == {"data/both.txt", "data/score.json"}
    assert all(digest.startswith("md5:") and len(digest) == 36 for digest in report["outputs"].values())
    assert report["metrics"] == {"student.map50": 19.0}  # "leftfirst" and "rightfirst"; names and NaN are no metrics
    assert {"stage", "executed", "outputs", "metrics"} <= set(first["score"]["metadata"])
    for stage in ORDERED:
        assert first[stage]["report"]["outputs"] == second[stage]["report"]["outputs"]


def test_its_store_lies_inside_the_project(looked: dict[str, Any]) -> None:
    assert looked["store"].startswith(f"sqlite:///{looked['toy']}/.work/zenml/")
