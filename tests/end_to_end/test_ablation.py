"""`make ablation` for real: every row with every seed, and their table."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.end_to_end.project import change, copy_project, run

TINY = {
    "input_size": {"width": 64, "height": 32},
    "ablation.seeds": [1, 2],
    "ablation.pretrain.epochs": 1,
    "ablation.pretrain.distill_epochs": 1,
    "ablation.training.epochs": 1,
    "ablation.training.milestones": [],
    "ablation.training.batch_size": 8,
    "ablation.training.distill_epochs": 1,
    "ablation.students": [
        {"name": "student", "model": "hrnet_w16", "balanced": False},
        {"name": "lite_balanced", "model": "hrnet_w16_lite", "balanced": True, "baseline": "student"},
        {"name": "resnet18_balanced", "model": "resnet18", "balanced": True},
        {"name": "dla34_balanced", "model": "dla34", "balanced": True},
    ],
    "ablation.distilled": [
        {
            "name": "student_balanced_distilled",
            "model": "hrnet_w16",
            "balanced": True,
            "teacher": "teacher",
            "baseline": "student",
        }
    ],
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_row_and_seed_ends_in_the_table_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    project = copy_project(tmp_path, TINY)
    for folder, command in ((".", ["dvc", "repro", "class_weights"]), ("ablation", ["dvc", "repro"])):
        done = run(project, *command, folder=folder)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    table = pd.read_csv(project / "data/reports/ablation.csv").set_index("row")
    rows = ["teacher", "student", "lite_balanced", "resnet18_balanced", "dla34_balanced", "student_balanced_distilled"]
    assert list(table.index) == rows
    assert (table["seeds"] == 2).all()
    assert table.loc["student", "params"] > table.loc["lite_balanced", "params"]
    text = (project / "data/reports/ablation.md").read_text()
    assert "synthetic clips" in text
    assert (project / "data/reports/ablation.png").read_bytes().startswith(b"\x89PNG")
    assert not list((project / ".work").glob("ablation/*/*/*"))

    again = run(project, "dvc", "repro", folder="ablation")
    assert "Running stage" not in again.stdout

    # Code makes no row stale; settings do for DVC, but a row that they make no difference to is not trained again.
    with (project / "mobile_centernet/training/fit.py").open("a") as file:
        file.write("\n")
    runs = {path: path.read_bytes() for path in (project / "ablation/runs").rglob("run.json")}
    params = yaml.safe_load((project / "params.yaml").read_text())
    change(params, "loss.lambda_pixelwise", 0.2)
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    changed = run(project, "dvc", "repro", folder="ablation")
    assert changed.returncode == 0, changed.stderr[-3000:]
    new = {path.parts[-3] for path, content in runs.items() if path.read_bytes() != content}
    assert new == {"student_balanced_distilled"}
    assert "finished already with these images, boxes and settings" in changed.stderr

    kept = run(project, "python", "-m", "steps.ablation", "keep", "synthetic")
    assert kept.returncode == 0, kept.stderr
    shutil.rmtree(project / "ablation/runs")
    shutil.rmtree(project / "data/prepared")
    before = (project / "data/reports/ablation.csv").read_text()
    table = run(project, "python", "-m", "steps.ablation", "table", "--runs", "docs/results/synthetic")
    assert table.returncode == 0, table.stderr
    assert (project / "data/reports/ablation.csv").read_text() == before
