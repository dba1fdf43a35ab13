"""The moving average of the weights: torch's AveragedModel is the oracle, a few kernels the implementation."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.module import DetectorTraining, Schedule


def module_at_step(module: DetectorTraining, step: int) -> DetectorTraining:
    """As Lightning has it after so many optimizer steps."""
    loop = SimpleNamespace(global_step=step)
    module._trainer = cast(Any, loop)
    return module


def averaged() -> DetectorTraining:
    torch.manual_seed(0)
    student = build_model("hrnet_w16_lite", 1)
    return DetectorTraining(student, Criterion([1.0]), Schedule(1e-3), fingerprint="", ema_decay=0.9)


def change(module: DetectorTraining) -> None:
    with torch.no_grad():
        for value in (*module.student.parameters(), *module.student.buffers()):
            value.add_(torch.randn(value.shape).mul(10).to(value.dtype))


class Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_the_average_is_torchs_own_and_counts_are_the_students() -> None:
    module = averaged()
    expected = AveragedModel(module.student, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for step in range(1, 6):
        change(module)
        module_at_step(module, step).on_train_batch_end(None, {}, step)
        expected.update_parameters(module.student)
    theirs, students = expected.module.state_dict(), module.student.state_dict()
    for name, value in module.scored.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, theirs[name], rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(value, students[name]), name
    assert not module.scored.training


@pytest.mark.parametrize("step", [1, 2])
def test_an_update_of_the_average_is_two_operators_and_looks_at_no_number(step: int) -> None:
    """Tensor by tensor it was 268 launches a step on a GPU, and twice the processor waited for it."""
    module = module_at_step(averaged(), step)
    with Operators() as ran:
        module.on_train_batch_end(None, {}, 0)
    names = [name for name in ran.names if "detach" not in name]
    assert [name.split(".")[1] for name in names] == ["_foreach_lerp_", "_foreach_copy_"]


def test_batches_that_make_no_step_leave_the_average() -> None:
    module = averaged()
    before = module.scored.state_dict()["backbone.conv2.weight"].clone()
    change(module)
    module_at_step(module, 0).on_train_batch_end(None, {}, 0)
    assert torch.equal(module.scored.state_dict()["backbone.conv2.weight"], before)
