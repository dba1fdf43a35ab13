"""`python -m steps.ablation`: one row with one seed (train), the table of all (table), what git keeps (keep)."""

import io
import json
import logging
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import UserError
from mobile_centernet.evaluation.bootstrap import MatchedFrames
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.torch import TorchRunner, best_device
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.ablation import read_run, read_runs
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import AblationRow, DistilledRow, Params, load_params
from mobile_centernet.mlops.sources import describe_source
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.mlops.training import fit_phase, training_fingerprint
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.complexity import count
from mobile_centernet.models.pretrained import load_pretrained
from mobile_centernet.models.variants import build_model
from mobile_centernet.processes import processor_name
from mobile_centernet.training.fit import FitResult

PRETRAINED_FILE = "pretrained.safetensors"

logger = logging.getLogger(__name__)


@click.group(help="Run a stage of ablation/dvc.yaml.")
def ablation() -> None:
    pass


@ablation.command()
@click.option("--name", required=True, help="The row's name in section `ablation` of params.yaml.")
@click.option("--seed", type=int, required=True)
def train(name: str, seed: int) -> None:
    """Train, score and save one row with one seed. A killed run resumes after its last finished epoch.

    A finished run with the same fingerprint, of the images, boxes and settings that it depends on, stays as it is.
    """
    params = load_params(paths.PARAMS)
    section = params.ablation
    rows = {row.name: row for row in section.rows}
    if name not in rows:
        raise UserError(f"{paths.PARAMS}: ablation: expected a row among {', '.join(rows)}, found {name}")
    row, out, teacher = rows[name], paths.ABLATION_RUNS / name / str(seed), None
    # What distillation weighs makes no difference without a teacher, so it is no part of such a row's identity.
    loss: dict[str, Any] = {"lambda_pixelwise": 0.0, "lambda_pairwise": 0.0, "kl_direction": "student_teacher"}
    if isinstance(row, DistilledRow):
        teacher, loss = paths.ABLATION_RUNS / row.teacher / str(seed), row.loss.model_dump(exclude_none=True)
    params = params.model_copy(update={"loss": params.loss.model_copy(update=loss)})
    phases = {"training": (section.data_set, section.recipe(row), paths.MODEL_FILE)}
    if section.pretrain:
        before = section.pretrain.model_copy(update={} if teacher else {"distill_epochs": 0, "distill_from": 0})
        phases = {"pretrain": ("bdd100k", before, PRETRAINED_FILE), **phases}
    unlabelled = params.unlabelled.mode == "distill" and teacher is not None
    identity: str | None = None
    chains = {}
    for phase, (data_set, settings, _) in phases.items():
        identity = chains[phase] = training_fingerprint(
            data_set,
            {
                "phase": settings.model_dump(mode="json"),
                **{name: getattr(params, name).model_dump(mode="json") for name in ("input_size", "augment", "loss")},
                "row": [row.model, row.balanced, seed, *(["unlabelled"] if unlabelled else [])],
                "hardware": [params.hardware.precision, params.hardware.devices],
                "taught_by": teacher and read_run(teacher)["fingerprint"],
                "split": section.split,
                "before": identity,
            },
            {"init": row.init},
        )
    if (out / paths.RUN_FILE).exists() and read_run(out).get("fingerprint") == identity:
        logger.info("ablation: %s, seed %d: finished already with these images, boxes and settings", name, seed)
        return

    classes = PreparedSet(paths.PREPARED / section.data_set, "train").classes
    torch.manual_seed(seed)
    student = build_model(row.model, len(classes))
    if row.init:
        logger.info("%s", load_pretrained(student, row.init, classes))
    out.mkdir(parents=True, exist_ok=True)
    work = paths.WORK / "ablation" / name / str(seed)
    history: list[dict[str, Any]] = []
    with tracking.run(f"ablation {name}", params, ("input_size", "augment", "loss", "ablation")) as tracker:
        tracker.log({"seed": seed})
        for phase, (data_set, settings, file) in phases.items():
            logger.info("ablation: %s (%s), seed %d: %s on %s", name, row.model, seed, phase, data_set)
            teacher_file = teacher / file if teacher and settings.distill_epochs else None
            chain = fingerprint([chains[phase], file_digest(teacher_file) if teacher_file else None])
            fitted = fit_phase(
                student,
                data_set,
                settings,
                params,
                seed=seed,
                work=work / chain[:16],
                fingerprint=chain,
                teacher_file=teacher_file,
                balanced=row.balanced,
                distill_unlabelled=unlabelled and teacher_file is not None,
                on_epoch=lambda record: tracker.log(record, step=int(record["epoch"]), prefix=f"{phase}/"),  # noqa: B023 called in this turn of the loop
            )
            history += [{"phase": phase, **record} for record in fitted.history]
            save_model(student, out / file, classes=classes, input_size=params.input_size.hw)
        measured = _score(student, row, seed, history, params, fitted) | {"fingerprint": identity}
        write_json(out / paths.RUN_FILE, measured)  # the last file: with it the run is finished
        tracker.log({f"{section.split}.map50": measured["map50"]})
        tracker.finish(out.iterdir())
    logger.info("ablation: %s, seed %d: mAP@0.5 %.3f on the %s split", name, seed, measured["map50"], section.split)
    shutil.rmtree(work)


def _score(
    student: CenterNet, row: AblationRow, seed: int, history: list[dict[str, Any]], params: Params, fitted: FitResult
) -> dict[str, Any]:
    """Score a trained row on the split that no choice was made by: what the table says of it. Its matches are saved."""
    section, out = params.ablation, paths.ABLATION_RUNS / row.name / str(seed)
    scored = PreparedSet(paths.PREPARED / section.data_set, section.split)
    on_gpu = torch.cuda.is_available()
    results = results_for(scored, TorchRunner(student.to(best_device())), params.input_size.hw)
    measured = evaluate_map50(scored.coco, results, scored.classes)
    matches = io.BytesIO()
    np.savez_compressed(matches, **asdict(MatchedFrames.of(scored.coco, results, scored.classes)))
    write_atomically(out / paths.MATCHES_FILE, matches.getvalue())
    write_atomically(out / paths.HISTORY_FILE, "".join(json.dumps(each) + "\n" for each in history).encode())
    complexity = count(student.cpu(), params.input_size.hw)
    return {
        "row": row.name,
        "place": section.rows.index(row),
        "model": row.model,
        "balanced": row.balanced,
        "teacher": row.teacher if isinstance(row, DistilledRow) else None,
        "baseline": row.baseline,
        "seed": seed,
        "map50": measured.map50,
        "map50_95": measured.map50_95,
        "ap50": dict(measured.ap50),
        "scored_on": {
            "data_set": section.data_set,
            "split": section.split,
            "source": describe_source(paths.RAW / section.data_set),
            "frames": measured.images,
            "annotations_sha256": file_digest(scored.root / f"annotations_{section.split}.json"),
        },
        "epochs": len(history),
        "seconds": sum(epoch["seconds"] for epoch in history),
        "cpu_seconds": sum(epoch["cpu_seconds"] for epoch in history),
        "device": torch.cuda.get_device_name() if on_gpu else processor_name(),
        "on_gpu": on_gpu,
        "input_size": params.input_size.model_dump(),
        "params": complexity.params,
        "conv_gmacs": complexity.conv_macs / 1e9,
        "best_epoch": fitted.best_epoch,
        "val_map50": fitted.best_map50,
        "precision": fitted.speed.precision,
        "threads": fitted.speed.threads,
    }


@ablation.command()
@click.option(
    "--runs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=paths.ABLATION_RUNS,
    help="Folder of ROW/SEED; also one that `keep` wrote, such as docs/results/street.",
)
def table(runs: Path) -> None:
    """Write data/reports/ablation.{html,csv,md,png}: every row, and how sure each gain is."""
    # Imported here, so that ablation/dvc.yaml names what the table depends on (tests/steps/test_dependencies.py).
    from mobile_centernet.mlops.ablation import measure_gains
    from mobile_centernet.reports.ablation import (
        ablation_figure,
        ablation_markdown,
        ablation_table,
        ablation_tables,
        write_ablation_page,
    )

    section = load_params(paths.PARAMS).ablation
    wanted = [(row.name, seed) for row in section.rows for seed in section.seeds]
    finished = read_runs(runs, wanted if runs == paths.ABLATION_RUNS else None)
    gains = measure_gains(finished)
    lines = ablation_table(finished, gains)
    paths.REPORTS.mkdir(parents=True, exist_ok=True)
    text, figure = ablation_markdown(ablation_tables(lines, finished)), ablation_figure(lines, finished)
    write_atomically(paths.REPORTS / "ablation.csv", lines.to_csv(index=False).encode())
    write_atomically(paths.REPORTS / "ablation.md", text.encode())
    write_atomically(paths.REPORTS / "ablation.png", figure)
    write_ablation_page(paths.REPORTS / "ablation.html", lines, finished, figure)
    click.echo(text)


@ablation.command()
@click.argument("name")
def keep(name: str) -> None:
    """Copy every finished run, but its weights, to docs/results/NAME/ROW/SEED, which git keeps."""
    for run in read_runs(paths.ABLATION_RUNS):
        out = paths.KEPT_RESULTS / name / run["row"] / str(run["seed"])
        out.mkdir(parents=True, exist_ok=True)
        for file in (paths.MATCHES_FILE, paths.HISTORY_FILE, paths.RUN_FILE):
            write_atomically(out / file, (paths.ABLATION_RUNS / run["row"] / str(run["seed"]) / file).read_bytes())
        click.echo(out)


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
