"""The edges are those that DVC itself finds, and the steps are the stages."""

from pathlib import Path, PurePosixPath

import pytest

from mobile_centernet.errors import UserError
from pipelines.graph import load_stages, outputs, stage_graph, with_followers
from steps.__main__ import STAGES

ROOT = Path(__file__).resolve().parents[2]


def test_graph_has_the_stages_of_dvc_and_of_steps_in_an_order_that_can_run() -> None:
    graph = stage_graph(ROOT / "dvc.yaml")
    assert set(graph) == set(STAGES) == set(load_stages(ROOT / "dvc.yaml"))
    done: set[str] = set()
    for stage, upstream in graph.items():
        assert upstream <= done, stage
        done.add(stage)


def test_edges_are_the_ones_that_dvc_finds() -> None:
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        found = {
            (stage.name, other.name)
            for stage, other in repo.index.graph.edges
            if stage.path == stage.repo.root_dir + "/dvc.yaml"
        }
    assert {(stage, other) for stage, upstream in stage_graph(ROOT / "dvc.yaml").items() for other in upstream} == found


@pytest.mark.parametrize("dependency", ["data/source", "data/source/part/text", "data"])
def test_a_dependency_on_a_part_or_on_the_folder_above_is_an_edge(tmp_path: Path, dependency: str) -> None:
    text = f"stages: {{b: {{cmd: x, deps: [{dependency}]}}, a: {{cmd: x, outs: [data/source: {{cache: false}}]}}}}"
    (tmp_path / "dvc.yaml").write_text(text)
    assert stage_graph(tmp_path / "dvc.yaml") == {"a": frozenset(), "b": frozenset({"a"})}


def test_names_that_only_begin_alike_are_no_edge(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {a: {outs: [data/so]}, b: {deps: [data/source]}}")
    assert stage_graph(tmp_path / "dvc.yaml") == {"a": frozenset(), "b": frozenset()}


def test_followers_of_a_stale_stage_may_be_stale_too(tmp_path: Path) -> None:
    stages = "a: {outs: [x]}, b: {deps: [x], outs: [y]}, c: {outs: [z]}, d: {deps: [y, z]}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{{stages}}}")
    assert with_followers(["b"], tmp_path / "dvc.yaml") == ["b", "d"]
    assert set(with_followers(["a"], tmp_path / "dvc.yaml")) == {"a", "b", "d"}
    assert with_followers([], tmp_path / "dvc.yaml") == []


def test_outputs_include_metrics_and_plots() -> None:
    stage = {"outs": ["a"], "metrics": [{"b": {"cache": False}}], "plots": ["c"]}
    assert outputs(stage) == [PurePosixPath("a"), PurePosixPath("b"), PurePosixPath("c")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stages: {a: {deps: [y], outs: [x]}, b: {deps: [x], outs: [y]}}", "without a circle"),
        ("stages: [", "expected YAML"),
        ("plots: []", "expected `stages`, found none"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        stage_graph(tmp_path / "dvc.yaml")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no such file"):
        stage_graph(tmp_path / "dvc.yaml")
