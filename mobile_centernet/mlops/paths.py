"""Where every stage reads and writes, relative to the project's root (the current directory of a stage)."""

from collections.abc import Mapping
from pathlib import Path

PARAMS = Path("params.yaml")
OVERLAYS = Path("overlays")
PAPER = OVERLAYS / "paper.yaml"
DVC_FILE = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
UPSTREAM = Path("data/upstream")
"""In git: what servers last said of the files that the fetch stages read; `python -m steps.refresh` writes there."""
MLFLOW_DB = Path("mlflow.db")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
CLASS_WEIGHTS = Path("data/class_weights")
MODELS = Path("data/models")
PSEUDO_LABELS = Path("data/pseudo_labels")
EXPORT = Path("data/export")
REPORTS = Path("data/reports")

DATA_SETS = ("bdd100k", "ivslab")
FIELD = "field"
"""The raw frames from devices, and the split of ivslab's prepared set that tests on reviewed ones of them."""
ROLES = ("teacher", "student")
"""The two networks, by the names of their folders in MODELS."""
TRAININGS: Mapping[str, str] = {
    "teacher_pretrained": "bdd100k",
    "teacher": "ivslab",
    "student_pretrained": "bdd100k",
    "student": "ivslab",
}
"""The trainings, by the names of their folders in MODELS, and the data set of each."""
TEACHER_PRETRAINED, TEACHER, STUDENT_PRETRAINED, STUDENT = (MODELS / name for name in TRAININGS)
CHAMPION = MODELS / "champion"
"""What a retraining starts from, where it does not start anew."""
MODEL_FILE = "model.safetensors"
SEEN_FILE = "seen.json"
HISTORY_FILE = "history.jsonl"

SUBSAMPLE = RAW / "ivslab_frames.json"
ONNX_FP32 = EXPORT / "model.fp32.onnx"

METRICS = REPORTS / "metrics.json"
EVALUATION = REPORTS / "evaluation"
GROUND_TRUTH = EVALUATION / "ground_truth.json"
"""The scored frames and their boxes, for pycocotools beside EVALUATION / "student.json"."""
ATTRIBUTED_RESULTS = EVALUATION / "student_bdd100k_val.json"
"""The student's detections on frames with attributes (weather, time of day): BDD100K's own validation frames."""
PR_CURVES = REPORTS / "pr_curves.csv"
PARITY = REPORTS / "parity.json"
LATENCY = REPORTS / "latency.json"
CONFUSION = REPORTS / "confusion.csv"
TRAINING_CURVES = REPORTS / "training_curves.csv"
REPORT = REPORTS / "index.html"
REGISTRATION = REPORTS / "registration.json"
PROMOTION = REPORTS / "promotion"
"""What the gate decided; no stage's output, so DVC leaves it alone."""
AUDIT = Path("audit.jsonl")
"""Every promotion, rejection and rollback, in the project's root: `make clean` leaves it alone."""

ABLATION_RUNS = Path("ablation/runs")
"""Inside the ablation's own DVC project, which caches them: ROW/SEED."""
RUN_FILE = "run.json"
MATCHES_FILE = "matches.npz"
"""What is in a row's folder beside weights and curves: its figures, and the boxes it found, for the bootstrap."""
KEPT_RESULTS = Path("docs/results")
"""Finished runs that git keeps, without weights: NAME/ROW/SEED."""

WORK = Path(".work")
"""Unfinished work, outside DVC's outputs, which DVC clears before a stage runs."""
DOWNLOADS = WORK / "downloads"
TRACKING = WORK / "tracking"
TENSORRT_TIMING = WORK / "tensorrt.timing"
REGISTRATION_LOCK = WORK / "registration.lock"
PROMOTION_LOCK = WORK / "promotion.lock"


def project_root() -> Path:
    """The project that this stage belongs to, which keeps mlflow.db and the tracking records.

    That is the current directory, unless DVC made it for a queued experiment (`dvc exp run --queue`, `--temp`): such a
    checkout lies in `.dvc/tmp/exps` of the project and is deleted with everything in it when the experiment ends.
    """
    here = Path.cwd().resolve()
    for folder in here.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return here
