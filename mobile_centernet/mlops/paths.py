"""Where every stage reads and writes, relative to the project's root (the current directory of a stage)."""

from pathlib import Path

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
MODELS = Path("data/models")
EXPORT = Path("data/export")
REPORTS = Path("data/reports")
WORK = Path(".work")
"""Unfinished training lives here, outside DVC's outputs, which DVC clears before a stage runs."""

CLASS_WEIGHTS = PREPARED / "class_weights.json"
SUBSAMPLE = RAW / "ivslab_frames.json"
TEACHER = MODELS / "teacher"
STUDENT = MODELS / "student"
MODEL_FILE = "model.safetensors"
HISTORY_FILE = "history.jsonl"
ONNX_FP32 = EXPORT / "model.fp32.onnx"
METRICS = REPORTS / "metrics.json"
EVALUATION = REPORTS / "evaluation"
PARITY = REPORTS / "parity.json"
LATENCY = REPORTS / "latency.json"
CONFUSION = REPORTS / "confusion.csv"
TRAINING_CURVES = REPORTS / "training_curves.csv"
REPORT = REPORTS / "index.html"
REGISTRATION = REPORTS / "registration.json"
MLFLOW_DB = Path("mlflow.db")
