"""bench: how long the exported files take on this machine, for the report."""

import logging

from mobile_centernet.files import write_json
from mobile_centernet.inference.benchmark import time_models
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params

logger = logging.getLogger(__name__)


def bench(params: Params) -> None:
    """Write data/reports/latency.json. The machine that trains is no device: it shows proportions."""
    del params
    models = sorted(paths.EXPORT.glob("model.*.onnx"))
    document = time_models([str(model) for model in models])
    for row in document["models"]:
        logger.info("%s: median %.1f ms per image", row["model"], row["latency_ms"]["p50"])
    write_json(paths.LATENCY, document)
