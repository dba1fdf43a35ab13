"""DLA-34 as CenterNet's backbone: names and shapes, how levels are joined, and what is in it without being used."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mobile_centernet.models.dla import CHANNELS, DLA, DLA34, DLASpec, DLAUp, IDAUp, Tree, TreeOfTrees

UNUSED = {"base.level3.project", "base.level4.project", "base.fc"}


@pytest.fixture(scope="module")
def backbone() -> DLA:
    torch.manual_seed(0)
    return DLA(DLASpec()).eval()


def test_names_and_shapes_of_the_reference_implementation(backbone: DLA) -> None:
    expected = {
        "base.base_layer.0.weight": (16, 3, 7, 7),
        "base.level0.0.weight": (16, 16, 3, 3),
        "base.level1.1.running_mean": (32,),
        "base.level2.tree1.conv1.weight": (64, 32, 3, 3),
        "base.level2.root.conv.weight": (64, 128, 1, 1),
        "base.level3.tree1.tree1.conv1.weight": (128, 64, 3, 3),
        "base.level3.tree2.root.conv.weight": (128, 448, 1, 1),
        "base.level4.tree1.project.0.weight": (256, 128, 1, 1),
        "base.level4.tree2.root.bn.bias": (256,),
        "base.level5.root.conv.weight": (512, 1280, 1, 1),
        "base.fc.weight": (1000, 512, 1, 1),
        "dla_up.ida_0.proj_1.conv.weight": (256, 512, 3, 3),
        "dla_up.ida_1.proj_2.conv.conv_offset_mask.weight": (27, 256, 3, 3),
        "dla_up.ida_2.up_3.weight": (64, 1, 4, 4),
        "dla_up.ida_2.node_3.actf.0.weight": (64,),
        "ida_up.proj_2.conv.bias": (64,),
        "ida_up.up_2.weight": (64, 1, 8, 8),
    }
    weights = backbone.state_dict()
    assert {name: tuple(weights[name].shape) for name in expected} == expected
    assert len(weights) == 388


def test_levels_halve_one_after_the_other(backbone: DLA) -> None:
    levels = backbone.base(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(1, c, 64 >> i, 96 >> i) for i, c in enumerate(CHANNELS)]


def test_shape(backbone: DLA) -> None:
    features = backbone(torch.randn(1, 3, 64, 96))
    assert features.shape == (1, 64, 16, 24)
    assert (features >= 0).all() and features.any()


def test_every_parameter_learns_but_those_that_nothing_reads() -> None:
    torch.manual_seed(0)
    backbone = DLA(DLASpec()).train()
    backbone(torch.randn(2, 3, 64, 64)).square().sum().backward()
    still = {
        key for key, parameter in backbone.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    assert {key for key in still if not key.startswith(tuple(UNUSED))} == set()
    asking = {key for key, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert asking == still  # none waits for a gradient that never comes


def test_what_nothing_reads_changes_nothing(backbone: DLA) -> None:
    image = torch.randn(1, 3, 32, 64)
    before = backbone(image)
    for name in UNUSED:
        for parameter in backbone.get_submodule(name).parameters():
            torch.nn.init.normal_(parameter, std=9)
    torch.testing.assert_close(backbone(image), before, rtol=0, atol=0)


def joined_by(root: torch.nn.Module, tree: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """What a root was given while its tree ran."""
    seen: list[tuple[Tensor, ...]] = []
    hook = root.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs))
    tree(x)
    hook.remove()
    return seen[0]


def test_a_tree_joins_second_first_and_its_pooled_input() -> None:
    tree, x = Tree(4, 8, stride=2, keeps_input=True).eval(), torch.randn(1, 4, 8, 8)
    pooled = F.max_pool2d(x, 2)
    first = tree.tree1(x, tree.project(pooled))
    torch.testing.assert_close(joined_by(tree.root, tree, x), (tree.tree2(first, first), first, pooled))


def test_the_last_root_of_a_tree_of_trees_joins_everything() -> None:
    tree, x = TreeOfTrees(4, 8).eval(), torch.randn(1, 4, 8, 8)
    first = tree.tree1(x)
    third = tree.tree2.tree1(first, first)
    fourth = tree.tree2.tree2(third, third)
    expected = (fourth, third, F.max_pool2d(x, 2), first)
    torch.testing.assert_close(joined_by(tree.tree2.root, tree, x), expected)


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_starts_bilinear(factor: int) -> None:
    x = torch.randn(2, 3, 6, 7)
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    inner = (..., slice(factor, -factor), slice(factor, -factor))  # at the border one pads, the other repeats
    upsampling = IDAUp([3, 3], [factor], deformable=False).get_submodule("up_1")
    torch.testing.assert_close(upsampling(x)[inner], expected[inner])


def test_levels_are_merged_into_the_finest_by_hand() -> None:
    ida = IDAUp((4, 6, 8), (2, 4), deformable=False).eval()
    fine, coarse, coarser = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4), torch.randn(1, 8, 2, 2)
    step = {name: ida.get_submodule(name) for name in ("proj_1", "up_1", "node_1", "proj_2", "up_2", "node_2")}
    one = step["node_1"](step["up_1"](step["proj_1"](coarse)) + fine)
    two = step["node_2"](step["up_2"](step["proj_2"](coarser)) + one)
    torch.testing.assert_close(ida([fine, coarse, coarser]), [fine, one, two])


def test_every_level_hears_of_the_coarser_ones_only() -> None:
    """A change of one level reaches that level and all finer ones, and no coarser one."""
    torch.manual_seed(0)
    up = DLAUp((4, 6, 8), deformable=False).eval()
    levels = [torch.rand(1, c, 16 >> i, 16 >> i) for i, c in enumerate((4, 6, 8))]
    before = up(levels)
    assert [level.shape for level in before] == [level.shape for level in levels]
    for changed in range(3):
        after = up([level + (i == changed) for i, level in enumerate(levels)])
        assert [not torch.equal(a, b) for a, b in zip(after, before, strict=True)] == [i <= changed for i in range(3)]


def test_unused_classifier_is_counted() -> None:
    assert sum(parameter.numel() for parameter in DLA34().fc.parameters()) == 513_000
