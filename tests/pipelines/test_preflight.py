"""What a remote stack refuses, in a real git and DVC checkout."""

import subprocess
from pathlib import Path

import pytest
import yaml

from mobile_centernet.mlops.params import load_params
from pipelines.preflight import obstacles
from pipelines.settings import LOCAL
from tests.pipelines.toy import environment, make_toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_toy(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    remote("s3://bucket/project")
    return tmp_path


def remote(url: str) -> None:
    Path(".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n")
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *author, "commit", "-qam", "remote"], env=environment(), check=True)


def sentences(settings: Path = LOCAL) -> list[str]:
    return obstacles(load_params(Path("params.yaml")), settings)


def test_a_checkout_that_pods_can_run_has_none(toy: Path) -> None:
    assert sentences() == []


def test_uncommitted_changes(toy: Path) -> None:
    (toy / "input.txt").write_text("changed")
    (toy / "new.txt").touch()
    (sentence,) = sentences()
    assert "found changes in input.txt and 1 more" in sentence


@pytest.mark.parametrize("address", ["", "sqlite:////tmp/mlflow.db", "file:///tmp/runs"])
def test_tracking_in_a_file(toy: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (sentence,) = sentences()
    assert sentence.startswith("MLFLOW_TRACKING_URI: expected a server")


@pytest.mark.parametrize("url", ["/srv/dvc", "../dvc", "file:///srv/dvc"])
def test_a_dvc_remote_of_this_machine(toy: Path, url: str) -> None:
    remote(url)
    (sentence,) = sentences()
    assert "expected remote store to be a storage that every pod reaches" in sentence and url in sentence


def test_no_dvc_remote(toy: Path) -> None:
    Path(".dvc/config").write_text("")
    assert any("expected a default remote" in sentence for sentence in sentences())


def change_params(section: str, **values: object) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *author, "commit", "-qam", "params"], env=environment(), check=True)


def test_footage_in_a_folder_of_this_machine(toy: Path) -> None:
    change_params("fetch_field", source="none", path="data/upstream/field.json")
    change_params("fetch_ivslab", source="folder", path="/data/ivslab")
    (sentence,) = sentences()
    assert "fetch_ivslab.source is folder" in sentence and sentence.endswith("found /data/ivslab.")


def test_footage_on_a_volume_that_pods_mount(toy: Path) -> None:
    change_params("fetch_field", source="none", path="data/upstream/field.json")
    change_params("fetch_ivslab", source="folder", path="/data/ivslab")
    mount = {"pod_settings": {"volume_mounts": [{"name": "footage", "mountPath": "/data"}]}}
    settings = toy / ".work-settings.yaml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(yaml.safe_dump({"settings": {"orchestrator.kubernetes": mount}}))
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "x"], check=True)
    assert sentences(settings) == []


def test_initial_weights_of_this_machine(toy: Path) -> None:
    change_params("train_teacher", init="/weights/hrnet.pth")
    (sentence,) = sentences()
    assert "train_teacher.init" in sentence
    change_params("train_teacher", init="input.txt")  # a file that git tracks
    assert sentences() == []
