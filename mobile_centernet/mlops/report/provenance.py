"""Where the models come from, how their settings differ from the paper's, and what to know before using them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.sources import describe_source, read_dataset_source
from mobile_centernet.mlops.stages import listed_params
from mobile_centernet.reports.run_page import (
    ApRow,
    Lineage,
    ModelCard,
    ParamsDifference,
    SliceGroup,
    SplitRow,
    weak_spots,
)

ABSENT = "–"
# No setting of the recipe: where footage lies, how much the generator draws.
SURROUNDINGS = tuple(f"fetch_{name}.{key}" for name in paths.DATA_SETS for key in ("path", "sample", "frame_step"))


def model_lineage() -> Lineage:
    """Commit, digests, and every setting of the paper's that is another one here."""
    # The keys that the stages up to the report read: a change of others does not re-run it.
    listed = listed_params()
    before = list(listed)[: list(listed).index("report")]
    keys = {key for stage in before for key in listed[stage]}
    return Lineage(
        git_commit=lineage.git_commit(),
        params_digest=lineage.params_digest(),
        data_digests=lineage.data_digests(),
        others=lineage.model_digests(),
        differences=params_differences(_yaml(paths.PARAMS), _yaml(paths.PAPER), keys),
    )


def params_differences(
    ours: Mapping[str, Any], paper: Mapping[str, Any], keys: Collection[str]
) -> tuple[ParamsDifference, ...]:
    """What the paper has, among these keys and those below them, that is not the same in `ours`, by dotted names."""
    mine, theirs = (
        {
            name: "null" if value is None else str(value)
            for name, value in lineage.flatten(side)
            if any(f"{name}.".startswith(f"{key}.") for key in keys)
        }
        for side in (ours, paper)
    )
    return tuple(
        ParamsDifference(name, mine.get(name, ABSENT), theirs[name])
        for name in theirs
        if mine.get(name) != theirs[name] and not name.startswith(SURROUNDINGS)
    )


def model_card(
    input_size: tuple[int, int],
    splits: Sequence[SplitRow],
    rows: Sequence[ApRow],
    slices: Sequence[SliceGroup],
    map50: float,
) -> ModelCard:
    """What was measured of what a user must know; `input_size` is (height, width)."""
    training = [row for row in splits if row.split == "train"]
    return ModelCard(
        input_size=input_size,
        trained_on=tuple(
            f"{row.dataset}, {describe_source(paths.RAW / row.dataset)}: "
            f"{row.labelled:,} labelled frames with {row.boxes:,} boxes"
            for row in training
        ),
        synthetic=read_dataset_source(paths.RAW / "ivslab").source == "sample",
        weak_spots=weak_spots(rows, slices, map50),
    )


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
