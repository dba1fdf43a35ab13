"""The table of models."""

import pytest

from mobile_centernet.errors import ModelError
from mobile_centernet.models.registry import MODELS, build_model


def test_table() -> None:
    assert {name: spec.head_channels for name, spec in MODELS.items()} == {"hrnet_w16": 32, "hrnet_w32": 64}


def test_model_knows_itself() -> None:
    model = build_model("hrnet_w16", 7)
    assert (model.name, model.num_classes, model.head_channels, model.stride) == ("hrnet_w16", 7, 32, 4)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'resnet_9000': expected one of hrnet_w16, hrnet_w32"):
        build_model("resnet_9000", 4)


def test_no_classes() -> None:
    with pytest.raises(ModelError, match="at least one class"):
        build_model("hrnet_w16", 0)
