"""A tiny git and DVC checkout with stages of its own: a diamond, one metrics file, one stage that may fail once; and a
`steps` of its own, whose `register` makes version 7 of everything."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DVC_YAML = """\
stages:
  source:
    cmd: python stages.py source
    deps: [input.txt, stages.py]
    outs: [data/source]
  left:
    cmd: python stages.py left
    deps: [data/source/text]
    outs: [data/left.txt]
  right:
    cmd: python stages.py right
    deps: [data/source]
    outs: [data/right.txt]
  score:
    cmd: python stages.py score
    deps: [data/left.txt, data/right.txt]
    outs: [data/both.txt]
    metrics: [data/score.json]
"""

STAGES_PY = """\
import json, pathlib, sys
data = pathlib.Path("data")
stage = sys.argv[1]
if stage == "right" and (fuse := pathlib.Path("fail-once")).exists():
    fuse.unlink()
    sys.exit("the disk was busy")
if stage == "source":
    (data / "source").mkdir(parents=True, exist_ok=True)
    (data / "source/text").write_text(pathlib.Path("input.txt").read_text())
elif stage in ("left", "right"):
    (data / f"{stage}.txt").write_text(stage + (data / "source/text").read_text())
else:
    both = (data / "left.txt").read_text() + (data / "right.txt").read_text()
    (data / "both.txt").write_text(both)
    (data / "score.json").write_text(json.dumps({"student": {"map50": len(both)}, "name": "toy", "nan": float("nan")}))
with open("ran.txt", "a") as log:
    log.write(stage + "\\n")
"""

STEPS_PY = """\
import sys
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registration import Registration, exported_digest
assert sys.argv[1:] == ["register"]
paths.REPORTS.mkdir(parents=True, exist_ok=True)
digest = exported_digest(load_params(paths.PARAMS))
made = Registration(name="mobile-centernet", version=7, onnx_sha256=digest, export_sha256=digest)
paths.REGISTRATION.write_text(made.model_dump_json())
"""

SETTINGS = "enable_cache: false\nretry: {max_retries: 1, delay: 0, backoff: 1}\n"


def make_toy(folder: Path) -> Path:
    """The checkout, committed; `ran.txt` will hold one line per command that ran."""
    files = {
        "dvc.yaml": DVC_YAML,
        "stages.py": STAGES_PY,
        "input.txt": "first",
        "steps/__init__.py": "",
        "steps/__main__.py": STEPS_PY,
        "steps/refresh.py": "from mobile_centernet.mlops.refresh import main\nmain()\n",
        "settings.yaml": SETTINGS,
        ".dvc/config": "[core]\n    analytics = false\n",  # this is all that `dvc init` needs to leave
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/data/\n/.work/\n/ran.txt\n/fail-once\n__pycache__/\n",
    }
    for name in (".dvc", "steps"):
        (folder / name).mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    own = "fetch_field:\n  source: none\n  path: data/upstream/field.json\n"  # data/ is not in git here
    shipped = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(shipped.replace("fetch_field:\n  source: sample\n  path: sample\n", own))
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "toy"],
    ):
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder


def environment(**more: str) -> dict[str, str]:
    """This interpreter first on the path; nothing of ZenML's or MLflow's that the shell may hold."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in the checkout."""
    command = [sys.executable, *arguments]
    env = environment(**more)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def ran(folder: Path) -> list[str]:
    """The stages whose commands have run since the last call."""
    log = folder / "ran.txt"
    lines = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines
