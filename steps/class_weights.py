"""class_weights: equation 4 for the training frames of each data set."""

from collections import Counter
from typing import Any

import numpy as np

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training import balance
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params


def class_weights(params: Params) -> None:
    """Write counts and weights per data set and class."""
    write_json(
        paths.CLASS_WEIGHTS,
        {name: _weigh(name, params.class_weights.w_max, params.class_weights.gamma) for name in ("bdd100k", "ivslab")},
    )


def _weigh(name: str, w_max: float, gamma: float) -> dict[str, Any]:
    prepared = PreparedSet(paths.PREPARED / name, "train")
    labels = np.concatenate([prepared.frame(i).labels for i in range(len(prepared))])
    found = Counter(labels.tolist())
    counts = [found[label] for label in range(len(prepared.classes))]
    weights = balance.class_weights(counts, w_max, gamma)
    for class_name, count, weight in zip(prepared.classes, counts, weights, strict=True):
        print(f"{name} {class_name}: {count} boxes, weight {weight:.2f}")
    return {
        "counts": dict(zip(prepared.classes, counts, strict=True)),
        "weights": dict(zip(prepared.classes, weights, strict=True)),
    }
