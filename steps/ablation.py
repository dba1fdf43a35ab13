"""`python -m steps.ablation`: one row with one seed (train), the table of all (table); see ablation/dvc.yaml."""

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint, folder_digest
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.sources import described
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import load_model, save_model
from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import MODELS, build_model
from mobile_centernet.reports.ablation import ablation_figure, ablation_markdown, ablation_table
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import Schedule
from steps.train import criterion_for

RUNS = Path("data/ablation")
RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table with one seed."""

    name: str
    model: str
    balanced: bool
    teacher: str | None
    seed: int

    @property
    def folder(self) -> Path:
        return RUNS / self.name / str(self.seed)

    @property
    def teacher_file(self) -> Path | None:
        return RUNS / self.teacher / str(self.seed) / paths.MODEL_FILE if self.teacher else None


def train(row: Row, params: Params) -> None:
    """Train, score and save one row with one seed. A killed run goes on from its last finished epoch."""
    folder = paths.PREPARED / params.ablation.data_set
    classes = PreparedSet(folder, "train").classes
    torch.manual_seed(row.seed)
    student = build_model(row.model, len(classes))
    chain = _fingerprint(row, params)
    work = paths.WORK / "ablation" / row.name / str(row.seed) / chain[:16]
    print(f"\nablation: {row.name} ({row.model}), seed {row.seed}", flush=True)
    with tracking.run(f"ablation {row.name}", params, ("input_size", "augment", "loss", "ablation")) as tracker:
        tracker.log({"seed": row.seed})
        fitted = _fit(row, student, params, work, chain, tracker)
        scored = PreparedSet(folder, params.ablation.split)
        results = results_for(scored, TorchRunner(student), params.input_size.hw)
        measured = evaluate_map50(scored.coco, results, classes)
        row.folder.mkdir(parents=True, exist_ok=True)
        save_model(student, row.folder / paths.MODEL_FILE, classes=classes, input_size=params.input_size.hw)
        write_json(
            row.folder / RUN_FILE,
            {
                "row": row.name,
                "model": row.model,
                "balanced": row.balanced,
                "teacher": row.teacher,
                "seed": row.seed,
                "map50": measured.map50,
                "ap50": dict(measured.ap50),
                "frames": measured.images,
                "best_epoch": fitted.best_epoch,
                "val_map50": fitted.best_map50,
                "seconds": sum(record["seconds"] for record in fitted.history),
                **_size(student, params),
            },
        )
        tracker.log({"test.map50": measured.map50})
        tracker.finish(row.folder.iterdir())
    print(f"ablation: {row.name}, seed {row.seed}: mAP@0.5 {measured.map50:.3f} on {measured.images} frames")
    shutil.rmtree(work)


def table(params: Params) -> None:
    """data/reports/ablation.{csv,md,png} from all runs that params asks for."""
    section = params.ablation
    runs = []
    for row in (*section.teachers, *section.students, *section.distilled):
        for seed in section.seeds:
            path = RUNS / row.name / str(seed) / RUN_FILE
            try:
                runs.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path}: expected a finished run (`make ablation` trains it), found: {error}"
                ) from error
    source = described(paths.RAW / section.data_set)
    measured_on = f"{runs[0]['frames']} frames of {section.data_set} {section.split} ({source})"
    lines = ablation_table(runs)
    paths.REPORTS.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.REPORTS / "ablation.csv", lines.to_csv(index=False).encode())
    write_atomically(paths.REPORTS / "ablation.md", ablation_markdown(lines, measured_on).encode())
    write_atomically(paths.REPORTS / "ablation.png", ablation_figure(lines, measured_on))
    print(ablation_markdown(lines, measured_on))


def _fit(row: Row, student: CenterNet, params: Params, work: Path, chain: str, tracker: tracking.Tracker) -> FitResult:
    section, phase = params.ablation, params.ablation.training
    folder = paths.PREPARED / section.data_set
    return fit(
        student,
        criterion_for(section.data_set, params.loss, balanced=row.balanced),
        TrainConfig(
            epochs=phase.epochs,
            batch_size=phase.batch_size,
            schedule=Schedule(phase.learning_rate, phase.milestones, phase.warmup_steps),
            seed=row.seed,
            workers=params.hardware.workers,
            precision=params.hardware.precision,
            ema_decay=phase.ema_decay,
            distill_epochs=phase.distill_epochs,
        ),
        TrainingData(
            PreparedSet(folder, "train"),
            PreparedSet(folder, "val"),
            params.input_size.hw,
            Augmentation(**params.augment.model_dump()),
        ),
        work=work,
        fingerprint=chain,
        teacher=load_model(row.teacher_file).model if row.teacher_file else None,
        on_epoch=lambda record: tracker.log(record, step=int(record["epoch"])),
    )


def _size(model: CenterNet, params: Params) -> dict[str, float | None]:
    complexity = count(model, params.input_size.hw)
    paper = MODELS[model.name].paper
    return {
        "params": complexity.params,
        "conv_gmacs": complexity.conv_macs / 1e9,
        "paper_params_m": paper.params_m if paper else None,
        "paper_gflops": paper.gflops if paper else None,
    }


def _fingerprint(row: Row, params: Params) -> str:
    """Of everything that the row's result depends on."""
    return fingerprint(
        {
            "row": [row.model, row.balanced, row.seed],
            "training": params.ablation.training.model_dump(mode="json"),
            "input_size": params.input_size.model_dump(),
            "augment": params.augment.model_dump(),
            "loss": params.loss.model_dump(),
            "data": folder_digest(paths.PREPARED / params.ablation.data_set),
            "class_weights": file_digest(paths.CLASS_WEIGHTS),
            "teacher": file_digest(row.teacher_file) if row.teacher_file else None,
        }
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m steps.ablation", description="Run a stage of ablation/dvc.yaml.")
    commands = parser.add_subparsers(dest="command", required=True)
    trained = commands.add_parser("train", help="one row with one seed")
    trained.add_argument("--name", required=True)
    trained.add_argument("--model", required=True)
    trained.add_argument("--balanced", choices=("true", "false"), required=True)
    trained.add_argument("--teacher")
    trained.add_argument("--seed", type=int, required=True)
    commands.add_parser("table", help="mean and standard deviation of every row")
    return parser


def main() -> int:
    """Exit 0 when done, 2 with one sentence when the user has something to mend."""
    wanted = _parser().parse_args()
    try:
        params = load_params(paths.PARAMS)
        if wanted.command == "table":
            table(params)
        else:
            train(Row(wanted.name, wanted.model, wanted.balanced == "true", wanted.teacher, wanted.seed), params)
    except (UserError, OSError) as error:
        print(f"error: ablation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
