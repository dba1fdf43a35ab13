"""`python -m steps.ablation`: one row with one seed (train), the table of all (table); see ablation/dvc.yaml."""

import json
import logging
import shutil
import sys

import click
import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import write_atomically, write_json
from mobile_centernet.inference.torch import TorchRunner, best_device
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.mlops.training import fit_phase, training_fingerprint
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import MODELS, build_model

RUN_FILE = "run.json"

logger = logging.getLogger(__name__)


@click.group(help="Run a stage of ablation/dvc.yaml.")
def ablation() -> None:
    pass


@ablation.command()
@click.option("--name", required=True, help="The row's name in the table.")
@click.option("--model", required=True, help="Model variant.")
@click.option("--balanced", type=bool, required=True, help="Weight the focal loss by class (equation 4).")
@click.option("--teacher", help="Row whose network of the same seed to distill from.")
@click.option("--seed", type=int, required=True)
def train(name: str, model: str, balanced: bool, teacher: str | None, seed: int) -> None:
    """Train, score and save one row with one seed. A killed run resumes after its last finished epoch."""
    params = load_params(paths.PARAMS)
    section = params.ablation
    folder = paths.PREPARED / section.data_set
    out = paths.ABLATION_RUNS / name / str(seed)
    teacher_file = paths.ABLATION_RUNS / teacher / str(seed) / paths.MODEL_FILE if teacher else None
    row = [model, balanced, seed]
    chain = training_fingerprint(section.data_set, section.training, params, teacher_file, row=row)
    work = paths.WORK / "ablation" / name / str(seed) / chain[:16]
    classes = PreparedSet(folder, "train").classes
    torch.manual_seed(seed)
    student = build_model(model, len(classes))
    logger.info("ablation: %s (%s), seed %d", name, model, seed)
    with tracking.run(f"ablation {name}", params, ("input_size", "augment", "loss", "ablation")) as tracker:
        tracker.log({"seed": seed})
        fitted = fit_phase(
            student,
            section.data_set,
            section.training,
            params,
            seed=seed,
            work=work,
            fingerprint=chain,
            teacher_file=teacher_file,
            balanced=balanced,
            on_epoch=lambda record: tracker.log(record, step=int(record["epoch"])),
        )
        scored = PreparedSet(folder, section.split)
        runner = TorchRunner(student.to(best_device()))
        measured = evaluate_map50(scored.coco, results_for(scored, runner, params.input_size.hw), classes)
        student.cpu()
        out.mkdir(parents=True, exist_ok=True)
        save_model(student, out / paths.MODEL_FILE, classes=classes, input_size=params.input_size.hw)
        complexity, paper = count(student, params.input_size.hw), MODELS[model].paper
        record = {
            "row": name,
            "model": model,
            "balanced": balanced,
            "teacher": teacher,
            "seed": seed,
            "map50": measured.map50,
            "ap50": dict(measured.ap50),
            "frames": measured.images,
            "best_epoch": fitted.best_epoch,
            "val_map50": fitted.best_map50,
            "seconds": sum(epoch["seconds"] for epoch in fitted.history),
            "params": complexity.params,
            "conv_gmacs": complexity.conv_macs / 1e9,
            "paper_params_m": paper.params_m if paper else None,
            "paper_gflops": paper.gflops if paper else None,
        }
        write_json(out / RUN_FILE, record)
        tracker.log({"test.map50": measured.map50})
        tracker.finish(out.iterdir())
    logger.info("ablation: %s, seed %d: mAP@0.5 %.3f on %d frames", name, seed, measured.map50, measured.images)
    shutil.rmtree(work)


@ablation.command()
def table() -> None:
    """Write data/reports/ablation.{csv,md,png}: mean and standard deviation of every row."""
    # Imported here: what only the table needs must not make the trainings stale (tests/steps/test_dependencies.py).
    from mobile_centernet.mlops.sources import describe_source
    from mobile_centernet.reports.ablation import ablation_figure, ablation_markdown, ablation_table

    section = load_params(paths.PARAMS).ablation
    rows = (*section.teachers, *section.students, *section.distilled)
    runs = []
    for path in (paths.ABLATION_RUNS / row.name / str(seed) / RUN_FILE for row in rows for seed in section.seeds):
        try:
            runs.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected a finished run (`make ablation` trains it), found: {error}") from error
    source = describe_source(paths.RAW / section.data_set)
    measured_on = f"{runs[0]['frames']} frames of {section.data_set} {section.split} ({source})"
    lines = ablation_table(runs)
    paths.REPORTS.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.REPORTS / "ablation.csv", lines.to_csv(index=False).encode())
    write_atomically(paths.REPORTS / "ablation.md", ablation_markdown(lines, measured_on).encode())
    write_atomically(paths.REPORTS / "ablation.png", ablation_figure(lines, measured_on))
    click.echo(ablation_markdown(lines, measured_on))


def main() -> None:
    """Exit 0 when done, 2 with one sentence when there is something for the user to fix."""
    setup_logging()
    try:
        ablation(prog_name="python -m steps.ablation")
    except (UserError, OSError) as error:
        click.echo(f"error: ablation: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
