"""One door: commands of a checkout run from anywhere inside it by its own modules, and say so outside of one."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mobile_centernet.cli.main import main
from mobile_centernet.mlops.doctor import main as doctor

ROOT = Path(__file__).resolve().parents[2]
SAYS = "import sys, pathlib; print(pathlib.Path.cwd().name, sys.argv[1:]); sys.exit(12)\n"
MODULES = {
    "promote": "steps/promote.py",
    "audit": "steps/audit.py",
    "refresh": "steps/refresh.py",
    "retrain": "pipelines/__main__.py",
    "repro": "dvc.py",
    "train": "dvc.py",
}
CALLS = {
    "promote": "['--dry-run', '--help']",
    "audit": "['--dry-run', '--help']",
    "refresh": "['--dry-run', '--help']",
    "retrain": "['retraining', '--dry-run', '--help']",
    "repro": "['repro', '--dry-run', '--help']",
    "train": "['repro', '--dry-run', '--help', 'distill_student']",
}


@pytest.mark.parametrize("command", CALLS)
def test_a_command_runs_the_project_s_own_module_in_its_root_and_passes_on_options_and_exit_code(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    module = project / MODULES[command]
    (project / "deep/inside").mkdir(parents=True)
    module.parent.mkdir(exist_ok=True)
    (project / "dvc.yaml").touch()
    module.with_name("__init__.py").touch()
    module.write_text(SAYS)
    monkeypatch.chdir(project / "deep/inside")
    done = CliRunner().invoke(main, [command, "--dry-run", "--help"])
    assert done.exit_code == 12
    assert capfd.readouterr().out == f"project {CALLS[command]}\n"


@pytest.mark.parametrize("command", [*CALLS, "params"])
def test_outside_of_a_project_a_command_says_so(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [command])
    assert (done.exit_code, done.stdout) == (2, "")
    expected = "expected a checkout of the project, with dvc.yaml here or above, found none"
    assert done.stderr.startswith(f"error: {tmp_path}: {expected}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [(["info", "--all"], "torch", "train"), (["bench", "m.onnx"], "onnxruntime", "edge")],
)
def test_a_command_whose_libraries_are_not_installed_names_the_extra_that_has_them(
    arguments: list[str], module: str, extra: str
) -> None:
    command = f"from mobile_centernet.cli.main import main; main({arguments})"
    script = f"import sys; sys.modules[{module!r}] = None; {command}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    needed = f"error: expected the module {module}, which this command needs, found none"
    assert (done.returncode, done.stderr) == (2, f"{needed}: pip install 'mobile-centernet[{extra}]'\n")


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    outside = CliRunner().invoke(doctor).output
    for what in ("Python", "disk", "threads", "GPU", "TensorRT", "project"):
        assert f" {what} " in outside
    Path("params.yaml").write_text("seed: many\n")
    Path("dvc.yaml").touch()
    done = CliRunner().invoke(doctor)
    assert done.exit_code == 1
    wrong = [line.split()[1] for line in done.output.splitlines() if line.startswith("wrong")]
    assert [what for what in wrong if what not in ("disk", "GPU")] == ["params.yaml", "MLflow"]
    for remedy in ("correct MLFLOW_TRACKING_URI", "dvc remote add --default NAME URL"):
        assert remedy in done.output
    assert not Path("mlflow.db").exists()

    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["trust"] |= {"repository": "served", "root": "root.json", "keys": {"bundles": ["bundles.key"]}}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    assert "mobile-centernet trust init" in CliRunner().invoke(doctor).output
    Path("root.json").touch()
    Path("bundles.key").touch(0o644)
    assert "chmod 600 bundles.key" in CliRunner().invoke(doctor).output
