"""What the report says about settings: those of the recipe that differ, and no others."""

from mobile_centernet.mlops.report.provenance import params_differences


def test_only_settings_of_the_recipe_that_differ_are_named() -> None:
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
        ("train.ours", "True", "–"),
        ("fetch_bdd100k.source", "sample", "folder"),
        ("train.theirs", "–", "x"),
    ]
