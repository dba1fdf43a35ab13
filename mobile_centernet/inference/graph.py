"""The names inside an exported graph, and what its file says about itself: the exporter writes, devices read.

Input `image`: float32 [1, 3, H, W], RGB 0..255. Outputs, best score first: `boxes` float32 [1, K, 4], xyxy in
pixels of the input; `scores` float32 [1, K]; `labels` int64 [1, K].
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.errors import ModelError

PROJECT = "mobile-centernet"
FORMAT = "1"
INPUT = "image"
OUTPUTS = ("boxes", "scores", "labels")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class GraphMetadata:
    """The `metadata_props` of an ONNX file of this project; `input_size` is (height, width)."""

    model: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    precision: str

    def to_props(self) -> dict[str, str]:
        return {
            "project": PROJECT,
            "format": FORMAT,
            "model": self.model,
            "classes": json.dumps(list(self.classes), ensure_ascii=False),
            "input_size": json.dumps(list(self.input_size)),
            "precision": self.precision,
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str], path: Path) -> "GraphMetadata":
        """The inverse of `to_props`. Raises ModelError, naming `path`, for another project's or format's graph."""
        if props.get("project") != PROJECT or props.get("format") != FORMAT:
            raise ModelError(
                f"{path}: expected a graph exported by {PROJECT} (format {FORMAT}), "
                f"found project {props.get('project')!r}, format {props.get('format')!r} in its metadata"
            )
        try:
            height, width = (int(side) for side in json.loads(props["input_size"]))
            names = json.loads(props["classes"])
            if not isinstance(names, list):  # the letters of a text are no classes
                raise TypeError(f"classes: {names!r}")
            classes = tuple(str(name) for name in names)
            model, precision = props["model"], props["precision"]
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ModelError(
                f"{path}: expected model, classes, input_size and precision in its metadata: {error!r}"
            ) from error
        if precision not in PRECISIONS:
            raise ModelError(f"{path}: expected precision {', '.join(PRECISIONS)}, found {precision!r}")
        return cls(model, classes, (height, width), precision)
