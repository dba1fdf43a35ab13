"""register: what a version holds, that the same files make no second one, and being killed in the middle."""

import json
import shutil
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Bundle
from mobile_centernet.mlops.registration import registered
from mobile_centernet.mlops.registry.registry import CHALLENGER, Registry, RegistryError, Version
from mobile_centernet.mlops.registry.version_files import VersionFiles
from steps.register import register
from tests.helpers import registry_project as small

pytestmark = pytest.mark.usefixtures("registry_project")


def files_of(registry: Registry, version: Version, folder: Path) -> VersionFiles:
    return VersionFiles.checked(registry.download(version, folder), version.tags["manifest_sha256"])


def test_a_version_holds_the_exported_bytes_and_leads_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    params = small.write_params("holds")
    exported = small.export_model(small.GOOD, "a").read_bytes()
    small.write_model(paths.EXPORT / "model.int8.onnx", small.HALF, "a8")
    register(params)
    assert "registered: holds version 1, alias challenger" in caplog.text

    registry = Registry("holds")
    (version,) = registry.versions()
    assert registry.aliases() == {CHALLENGER: 1}
    expected = {"git_commit", "params_sha256", "bdd100k_sha256", "ivslab_sha256", "teacher_sha256", "student_sha256"}
    assert expected | {"onnx_sha256", "export_sha256", "manifest_sha256", "map50", "measured_on"} <= set(version.tags)
    assert version.tags["onnx_sha256"] == file_digest(paths.ONNX_FP32)

    files = files_of(registry, version, tmp_path)
    assert files.model("fp32").read_bytes() == exported
    assert files.model("int8").read_bytes() == (paths.EXPORT / "model.int8.onnx").read_bytes()
    assert files.parity == {"fp32": True, "engine": "engine not built"}
    assert files.params["register"]["name"] == "holds"
    assert files.training_ids.videos == {
        f"{s}/{split}-{i}.mp4" for s in ("bdd100k", "ivslab") for split in ("train", "val") for i in range(12)
    }
    assert len(files.training_ids.images) == 48
    registration = json.loads(paths.REGISTRATION.read_text())
    assert (registration["name"], registration["version"]) == ("holds", 1)


def test_the_run_behind_a_version_tells_its_story_and_both_ends_are_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MOBILE_CENTERNET_EXECUTION", "tonight")
    params = small.write_params("told")
    small.export_model(small.GOOD, "story", parity={"fp32": {"passed": True, "status": "exported", "map50": 0.5}})
    rows = [{"model": "data/export/model.fp32.onnx", "latency_ms": {"p50": 12.5}}]
    paths.LATENCY.write_text(json.dumps({"models": rows}))
    paths.DVC_FILE.write_text("stages: {prepare: {outs: [data/prepared/ivslab]}}")
    paths.DVC_LOCK.write_text("stages: {prepare: {outs: [{path: data/prepared/ivslab, md5: abc.dir}]}}")
    try:
        register(params)
    finally:
        paths.DVC_FILE.unlink()
        paths.DVC_LOCK.unlink()
    client = mlflow.MlflowClient()
    version = client.get_model_version("told", "1")
    run, model = client.get_run(version.run_id), client.get_logged_model(version.source.rpartition("/")[2])
    mib = paths.ONNX_FP32.stat().st_size / 2**20
    numbers = {"student.map50": 0.5, "teacher.ap50.pedestrian": 0.5, "fp32.map50": 0.5, "fp32.latency_ms": 12.5}
    assert run.data.metrics.items() >= (numbers | {"fp32.mib": mib}).items()
    assert {metric.key for metric in model.metrics} == set(run.data.metrics)
    assert float(run.data.params["loss.alpha"]) == 2 and run.data.params["register.name"] == "told"
    assert [each.dataset.digest for each in run.inputs.dataset_inputs] == ["abc.dir"]
    assert "mlflow.parentRunId" in run.data.tags
    assert "| vehicle | 0.500 | 0.500 |" in version.description and "model.fp32.onnx | 0.500" in version.description
    assert "score at least 0.3 (default), and may take 200 ms (default) for an image" in version.description
    assert run.data.tags["mlflow.note.content"] == version.description
    assert "distilled" in client.get_registered_model("told").description
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "told", "version": version.version}]


def test_mlflow_loads_it_as_onnx_with_its_signature_and_without_pyfunc(tmp_path: Path) -> None:
    import mlflow

    params = small.write_params("flavour")
    small.export_model(small.GOOD, "b")
    register(params)
    info = mlflow.models.get_model_info(f"models:/flavour@{CHALLENGER}")
    assert set(info.flavors) == {"onnx"}
    assert info.signature.inputs.input_names() == ["image"]
    assert info.signature.outputs.input_names() == ["boxes", "scores", "labels"]
    loaded = mlflow.onnx.load_model(f"models:/flavour@{CHALLENGER}")
    session = onnxruntime.InferenceSession(loaded.SerializeToString())
    (boxes, _, _) = session.run(None, {"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert boxes[0].tolist() == [list(box) for box in small.GOOD]


def test_the_same_files_are_the_same_version_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    params = small.write_params("same")
    small.export_model(small.GOOD, "c")
    register(params)
    register(params)
    assert "same version 1 already holds these files" in caplog.text
    small.export_model(small.HALF, "c")
    register(params)
    small.write_model(paths.EXPORT / "model.fp16.onnx", small.HALF, "c16")
    register(params)
    registry = Registry("same")
    assert [version.number for version in registry.versions()] == [1, 2, 3]
    assert registry.aliases() == {CHALLENGER: 3}
    (paths.EXPORT / "model.fp16.onnx").unlink()
    small.export_model(small.GOOD, "c")
    register(params)  # back to the first: dvc checkout of an older commit, say
    assert len(registry.versions()) == 3 and registry.aliases() == {CHALLENGER: 1}


@pytest.mark.parametrize("setting", Bundle.model_fields)
def test_what_devices_are_told_beside_the_files_makes_another_version_too(setting: str) -> None:
    changed = {"pictures": 3, "thresholds": {"default": 0.4}, "latency_ms": {"default": 150}}[setting]
    params, name = small.write_params(setting), setting
    small.export_model(small.GOOD, name)
    register(params)
    assert registered(params)
    params = small.write_params(name, bundle={setting: changed})
    assert not registered(params)
    register(params)
    assert [version.number for version in Registry(name).versions()] == [1, 2]
    register(small.write_params(name))
    assert len(Registry(name).versions()) == 2 and Registry(name).aliases() == {CHALLENGER: 1}


def test_without_an_exported_file_nothing_is_registered() -> None:
    params = small.write_params("nothing")
    with pytest.raises(ModelError, match=r"model.fp32.onnx: expected the exported model, found nothing"):
        register(params)
    assert Registry("nothing").versions() == []


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 5])  # after each of REGISTRATION_EFFECTS
def test_killed_at_any_point_and_run_again_there_is_one_version(kill_at: int, tmp_path: Path) -> None:
    name = f"killed-{kill_at}"
    params = small.write_params(name)
    small.export_model(small.GOOD, name)
    assert small.ended(small.start(small.register_and_die, kill_at)) == -9
    assert not paths.REGISTRATION.exists()
    registry = Registry(name)
    assert len(registry.versions()) == (kill_at >= 4)
    register(params)
    (version,) = registry.versions()
    assert registry.aliases() == {CHALLENGER: 1}
    assert files_of(registry, version, tmp_path).model("fp32").read_bytes() == paths.ONNX_FP32.read_bytes()
    assert json.loads(paths.REGISTRATION.read_text())["version"] == 1


def test_two_registrations_at_once_make_one_version() -> None:
    small.write_params("at-once")
    small.export_model(small.GOOD, "at-once")
    workers = [small.start(small.register_once) for _ in range(2)]
    assert [small.ended(worker) for worker in workers] == [0, 0]
    assert [version.number for version in Registry("at-once").versions()] == [1]


def test_two_machines_that_register_the_same_files_at_once_make_one_version(
    registry_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a lock of its own. The slower one makes a version, sees that it is the younger, and deletes it."""
    params = small.write_params("machines")
    small.export_model(small.GOOD, "machines")
    other = tmp_path / "other"
    shutil.copytree(registry_project, other, ignore=shutil.ignore_patterns("mlflow.*", "mlartifacts", ".work"))
    slow = small.start(small.register_slowly)
    while not Path("held").exists():
        time.sleep(0.02)
    with monkeypatch.context() as there, chdir(other):
        there.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry_project / 'mlflow.db'}")
        register(params)
        assert json.loads(paths.REGISTRATION.read_text())["version"] == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it
    Path("go").touch()
    assert small.ended(slow) == 0
    assert json.loads(paths.REGISTRATION.read_text())["version"] == 1
    assert [version.number for version in Registry("machines").versions()] == [1]
    assert Registry("machines").aliases() == {CHALLENGER: 1}


def test_an_experiment_registers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = small.write_params("experiment")
    checkout = tmp_path / ".dvc/tmp/exps/tmp1"
    checkout.mkdir(parents=True)
    monkeypatch.chdir(checkout)
    with pytest.raises(UserError, match=r"an experiment registers nothing: `dvc exp apply` it"):
        register(params)


def test_a_file_that_was_changed_in_the_registry_is_refused(tmp_path: Path) -> None:
    params = small.write_params("changed")
    small.export_model(small.GOOD, "e")
    register(params)
    registry = Registry("changed")
    (version,) = registry.versions()
    folder = registry.download(version, tmp_path)
    stored = folder / "model.fp32.onnx"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(
        RegistryError, match=r"model.fp32.onnx: expected the registered file, sha256 .* found [0-9a-f]{64}"
    ):
        VersionFiles.checked(folder, version.tags["manifest_sha256"])
    stored.write_bytes(whole)
    (folder / "seen.json").unlink()
    with pytest.raises(RegistryError, match=r"seen.json: expected the registered file, .* found no such file"):
        VersionFiles.checked(folder, version.tags["manifest_sha256"])
    with pytest.raises(RegistryError, match=r"expected a version with manifest\.json"):
        VersionFiles.checked(folder, None)
