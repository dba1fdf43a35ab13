"""What a remote stack refuses, in a real git and DVC checkout."""

import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.preflight import obstacles
from steps.params import load_params
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


def sentences() -> list[str]:
    return obstacles(load_params(Path("params.yaml")))


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


def test_footage_in_a_folder_of_this_machine(toy: Path) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["fetch_ivslab"] |= {"source": "folder", "path": "/data/ivslab"}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    found = sentences()
    assert any("fetch_ivslab.source is folder" in sentence and "/data/ivslab" in sentence for sentence in found)
