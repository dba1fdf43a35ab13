"""What the report says about settings, those of the recipe that differ and no others, and about mistakes."""

from pathlib import Path

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.error_analysis import FALSE_NEGATIVES, FALSE_POSITIVES, Mistake
from mobile_centernet.mlops.report.images import gallery
from mobile_centernet.mlops.report.provenance import params_differences
from tests.export.small_set import small_set


def test_only_settings_of_the_papers_recipe_that_differ_are_named() -> None:
    ours = {
        "seed": 1,
        "input_size": {"width": 192, "height": 96},
        "train": {"init": None, "milestones": [2], "ours": True},
        "fetch_bdd100k": {"source": "sample", "path": "here", "sample": {"train_frames": 3}},
        "register": {"name": "mine"},
    }
    paper = {
        "seed": 1,
        "input_size": {"width": 576, "height": 96},
        "train": {"init": None, "milestones": [45, 55], "theirs": "x"},
        "fetch_bdd100k": {"source": "folder", "path": "there", "sample": {"train_frames": 4}},
        "register": {"name": "theirs"},
    }
    sections = ["seed", "input_size", "train", "fetch_bdd100k", "absent"]
    assert [(row.name, row.ours, row.paper) for row in params_differences(ours, paper, sections)] == [
        ("input_size.width", "192", "576"),
        ("train.milestones", "[2]", "[45, 55]"),
        ("train.theirs", "–", "x"),
        ("fetch_bdd100k.source", "sample", "folder"),
    ]


def test_mistakes_are_counted_by_why_the_most_frequent_first(tmp_path: Path) -> None:
    frames = PreparedSet(small_set(tmp_path), "test")
    box = {"image_id": frames.frame(0).id, "category_id": 1, "bbox": [4.0, 4.0, 10.0, 10.0], "score": 0.9}
    found = gallery([Mistake(box, "double"), *[Mistake(box, "nothing there")] * 6], FALSE_POSITIVES, frames, [])
    counts = [("nothing there", 6), ("double", 1), ("wrong class", 0), ("misplaced", 0)]
    assert found.reasons == tuple((why, FALSE_POSITIVES[why], count) for why, count in counts)
    assert found.total == 7
    assert {why for why, _, _ in gallery([], FALSE_NEGATIVES, frames, []).reasons} == set(FALSE_NEGATIVES)
