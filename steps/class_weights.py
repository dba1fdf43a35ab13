"""class_weights: equation 4 for the training frames of each data set."""

import logging
from collections import Counter

import numpy as np

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training import balance
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params

logger = logging.getLogger(__name__)


def class_weights(params: Params) -> None:
    """Write data/class_weights/{bdd100k,ivslab}.json: counts and weights by class."""
    paths.CLASS_WEIGHTS.mkdir(parents=True, exist_ok=True)
    for name in paths.DATA_SETS:
        prepared = PreparedSet(paths.PREPARED / name, "train")
        labels = np.concatenate([prepared.frame(i).labels for i in range(len(prepared))])
        found = Counter(labels.tolist())
        counts = [found[label] for label in range(len(prepared.classes))]
        weights = balance.class_weights(counts, params.class_weights.w_max, params.class_weights.gamma)
        for class_name, count, weight in zip(prepared.classes, counts, weights, strict=True):
            logger.info("%s %s: %d boxes, weight %.2f", name, class_name, count, weight)
        document = {
            "counts": dict(zip(prepared.classes, counts, strict=True)),
            "weights": dict(zip(prepared.classes, weights, strict=True)),
        }
        write_json(paths.CLASS_WEIGHTS / f"{name}.json", document)
