"""Tracking a stage: its params, numbers and small files, on this machine first, and in MLflow when that answers.

No failure of MLflow stops a stage, and none slows it down: `upload` talks to it from a thread of its own.
What MLflow did not get, `mobile-centernet tracking sync` sends later.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobile_centernet.mlops import lineage
from mobile_centernet.mlops.mlflow_server import EXPERIMENT, connect
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.stages import settings
from mobile_centernet.mlops.tracking.record import END, METRICS, START, RunRecord
from mobile_centernet.mlops.tracking.upload import Uploader

__all__ = ["EXPERIMENT", "Tracker", "connect", "run"]

logger = logging.getLogger(__name__)


class Tracker:
    """One run. Tracking errors are reported once and never stop the stage."""

    def __init__(self, stage: str, params: Mapping[str, Any]) -> None:
        self.stage = stage
        self._record: RunRecord | None = None
        self._tags: dict[str, str] = {}
        with self._best_effort():
            self._record = RunRecord.create(stage)
            tags = {"stage": stage, "mlflow.user": lineage.user(), "git_commit": lineage.git_commit()}
            for tag, variable in (("dvc_exp", "DVC_EXP_NAME"), ("dvc_exp_baseline", "DVC_EXP_BASELINE_REV")):
                if value := os.environ.get(variable):
                    tags[tag] = value
            self._record.write(
                START,
                stage=stage,
                tags=tags,
                params=dict(lineage.flatten(params)),
                execution=lineage.execution(),
                datasets=lineage.dvc_datasets(stage),
            )
            self._uploader = Uploader(self._record, stage)

    def log(self, record: Mapping[str, float], *, step: int = 0, prefix: str = "") -> None:
        """Numbers of one step; names get `prefix`."""
        with self._best_effort():
            if self._record:
                values = {f"{prefix}{name}": float(value) for name, value in record.items()}
                self._record.write(METRICS, step=step, values=values)

    def finish(self, paths: Iterable[Path] = (), **tags: str) -> None:
        """Attach files, but no weights, which stay with DVC, and no folders; and tags."""
        with self._best_effort():
            self._tags |= tags
            for path in sorted(paths):
                if self._record and path.is_file() and path.suffix != ".safetensors":
                    self._record.attach(path)

    def end(self, status: str) -> None:
        with self._best_effort():
            if self._record:
                self._record.write(END, status=status, tags=self._tags)
                if not self._uploader.finish():
                    how = "`mobile-centernet tracking sync` sends it"
                    message = "%s: MLflow does not have all of this run yet: %s (%s)"
                    logger.warning(message, self.stage, how, self._record.folder)
                self._record.close()

    @contextmanager
    def _best_effort(self) -> Iterator[None]:
        """A full disk, say. The numbers that count are in the stage's own outputs, which fail loudly."""
        try:
            yield
        except OSError as error:
            self._record = None
            logger.warning("%s is no longer tracked (%s)", self.stage, error)


@contextmanager
def run(stage: str, params: Params, keys: Sequence[str]) -> Iterator[Tracker]:
    """A run of `stage` with these params, by their dotted names; FAILED when the block raises."""
    tracker = Tracker(stage, settings(params, keys))
    try:
        yield tracker
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")
