"""The project's own pipeline compiled for Kubernetes, its manifests checked against Kubernetes' schemas. No cluster."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.graph import stage_graph
from pipelines.settings import load_settings, mounts, without_schedule
from tests.pipelines.toy import ROOT, run

STACKS = ROOT / "pipelines/stacks"
TRAINING = {"pretrain_teacher", "train_teacher", "pseudo_label", "pretrain_student", "distill_student"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("kubernetes")
    config = tmp_path_factory.mktemp("zenml")
    done = run(ROOT, str(Path(__file__).with_name("compiled.py")), ZENML_CONFIG_PATH=str(config))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def test_every_manifest_is_one_of_kubernetes(compiled: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for manifest in (compiled["cron_job"], *compiled["jobs"].values()):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_one_retraining_at_a_time_every_night(compiled: dict[str, Any]) -> None:
    spec = compiled["cron_job"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["schedule"] == load_settings(STACKS / "kubernetes.yaml")["schedule"]["cron_expression"]
    assert spec["startingDeadlineSeconds"] > 0
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] == "mobile-centernet"


def test_stages_that_train_get_a_gpu_and_no_other_does(compiled: dict[str, Any]) -> None:
    pods = {name: job["spec"]["template"]["spec"] for name, job in compiled["jobs"].items()}
    limits = {name: pod["containers"][0]["resources"].get("limits", {}) for name, pod in pods.items()}
    assert {name for name, limit in limits.items() if "nvidia.com/gpu" in limit} == TRAINING
    for name, job in compiled["jobs"].items():
        (container,) = pods[name]["containers"]
        assert pods[name]["serviceAccountName"] == "default"
        assert job["spec"]["backoffLimit"] == 2
        assert container["envFrom"] == [{"secretRef": {"name": "mobile-centernet"}}]
        assert not any("PASSWORD" in entry["name"] or "KEY" in entry["name"] for entry in container.get("env", []))
        assert pods[name]["securityContext"]["runAsNonRoot"] is True
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm"}  # noqa: S108 the pod's


def test_its_edges_are_those_of_dvc_and_the_gate_comes_last(compiled: dict[str, Any]) -> None:
    graph = {stage: sorted(upstream) for stage, upstream in stage_graph(ROOT / "dvc.yaml").items()}
    assert compiled["upstream"] == graph | {"register": sorted(graph), "promote": ["register"]}


def test_its_image_is_the_dockerfile(compiled: dict[str, Any]) -> None:
    docker = compiled["docker"]
    assert (ROOT / docker["dockerfile"]).is_file()
    assert docker["user"] == "1000"
    assert not docker["allow_download_from_artifact_store"]


@pytest.mark.parametrize("name", ["local", "kubernetes", "kubeflow"])
def test_every_stack_file_is_a_run_configuration(name: str) -> None:
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    document = load_settings(STACKS / f"{name}.yaml")
    assert PipelineRunConfiguration.model_validate(document).retry
    assert set(document.get("steps", {})) <= set(stage_graph(ROOT / "dvc.yaml"))


def test_training_runs_now_whatever_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scheduled = STACKS / "kubernetes.yaml"
    once = without_schedule(scheduled)
    assert load_settings(scheduled)["schedule"] and "schedule" not in load_settings(once)
    assert yaml.safe_load(once.read_text()) == {k: v for k, v in load_settings(scheduled).items() if k != "schedule"}
    assert without_schedule(STACKS / "local.yaml") == STACKS / "local.yaml"


def test_mounts_of_the_steps_are_found() -> None:
    assert set(mounts(load_settings(STACKS / "kubernetes.yaml")["settings"])) == {Path("/dev/shm")}  # noqa: S108 the pod's
    assert list(mounts(load_settings(STACKS / "local.yaml"))) == []


def test_nothing_that_a_run_writes_or_that_is_secret_goes_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    left_out = {line.removeprefix("**/").strip("/") for line in lines if line and not line.startswith("#")}
    assert ".git" not in left_out  # DVC and the tags of a version need the commit
    assert {".venv", ".work", "data/raw", "mlartifacts", ".dvc/cache", ".dvc/config.local"} <= left_out
    assert {"*.key", "*.pem", "*.netrc", ".netrc", "*.env", ".env", "basic_auth.ini"} <= left_out


def test_git_takes_no_secret_either() -> None:
    secret = ["release.key", "a/root-1.key", "trust/keys/champion", "ci.netrc", "edge.env", "docs/basic_auth.ini"]
    kept = ["trust/keys/champion.pub", "trust/root.json"]
    said = subprocess.run(
        ["git", "check-ignore", "--no-index", *secret, *kept], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == secret
