"""Initial weights from a file, key for key: official HRNet checkpoints, our own, and what other trainings save."""

import re
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from torch import Tensor

from mobile_centernet.errors import ModelError
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.checkpoint import PROJECT, parse_header, read_safetensors

BACKBONE = "backbone."
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")  # .tar: HRNet's trainings write .pth.tar

# What DataParallel, torch.compile, Lightning, detection toolkits and our training put before the official names.
# The moving average is what a training scores and keeps, so its tensors go before their namesakes.
AVERAGE = "average."
WRAPPERS = (AVERAGE, "module.", "model.", "student.", "net.", "_orig_mod.", BACKBONE)

# Where a checkpoint keeps the weights, next to epoch, optimizer and the like; averages first, and each in each.
WEIGHT_KEYS = ("state_dict_ema", "ema", "state_dict", "model_state_dict", "model", "net", "module")
DEEPEST = 8  # a file may hold a mapping that holds itself

# What torch.load was seen to raise for damaged files (cut at every length, bytes flipped, both of its formats).
UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


class NumpyStandIn:
    """What a checkpoint's numpy scalars become: nothing of numpy is called, and nobody reads their value."""

    def __init__(self, *_arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# How numpy 2 and numpy 1 pickle a scalar such as the best score, which trainings like to keep beside the weights.
NUMPY_NAMES = ("numpy.dtype", "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")


class Skipped(NamedTuple):
    """A tensor of the file that was not used: its name in the file, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of the file and of the model.

    matched: names of the model's tensors that now hold the file's values
    skipped: the file's tensors that were not used, each with the reason
    new:     names of the model's tensors that keep what they had, because the file gave them nothing
    """

    path: Path
    model: str
    matched: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    new: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line: how much of the backbone and of the heads came from the file."""
        shares = []
        for in_backbone in (True, False):
            used = sum(name.startswith(BACKBONE) == in_backbone for name in self.matched)
            unused = sum(name.startswith(BACKBONE) == in_backbone for name in self.new)
            shares.append(f"{used} of {used + unused}")
        backbone, heads = shares
        of_heads = "the heads are new" if heads.startswith("0 ") else f"{heads} tensors of the heads"
        return f"{self.path} into {self.model}: {backbone} tensors of the backbone; {of_heads}"

    def __str__(self) -> str:
        # Names of skipped tensors by their reason; where each has its own, together, with the first as example.
        groups: dict[str, list[Skipped]] = {}
        for skipped in self.skipped:
            own = next((kind for kind in ("shape", "a second tensor") if skipped.reason.startswith(kind)), None)
            groups.setdefault(own or skipped.reason, []).append(skipped)
        lines = [self.summary]
        for reason, group in groups.items():
            each = "another shape" if reason == "shape" else reason
            shown = reason if group[0].reason == reason else f"{each}, as {group[0].name}: {group[0].reason}"
            lines.append(f"  skipped {_count_by_module([skipped.name for skipped in group])}: {shown}")
        if self.new:
            lines.append(f"  new {_count_by_module(self.new)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {
            "file": str(self.path),
            "model": self.model,
            "summary": self.summary,
            "matched": list(self.matched),
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "new": list(self.new),
        }


def load_pretrained(model: CenterNet, path: Path, classes: Sequence[str] | None = None) -> LoadReport:
    """Give `model`, in place, every tensor of the file that has a namesake of the same shape in it.

    Names count without the wrappers' prefixes, so `module.conv1.weight` and `conv1.weight` are both the backbone's.
    Where a checkpoint has a moving average, that is taken.

    Args:
        model: any of ours; tensors of half precision are widened to its own.
        path: .safetensors (ours or foreign), or what torch.save wrote (.pth, .pt, .ckpt, .bin, .pth.tar): a state
            dict, or a checkpoint that holds one under any of WEIGHT_KEYS, however nested.
        classes: heads of a .safetensors of ours are taken when it is for these, in this order; None: for as many as
            the model has. Other files name no classes: their heads are taken where the shapes fit.

    Raises:
        ModelError: the file is missing, damaged, holds anything but tensors, plain values and numpy scalars (code in
            it is never run), a number that is not finite or a negative variance, or has no convolution kernel of the
            model's backbone; `model` is as it was.
    """
    tensors, header = _read(path)
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_complex():
            continue
        if value.numel() * value.element_size() > (stored := value.untyped_storage()).nbytes():
            value = torch.empty(0, dtype=value.dtype).set_(stored)  # a few numbers in the file stand for any number
        wrong = "NaN or infinity" if not value.double().isfinite().all() else ""
        if not wrong and name.endswith("running_var") and (value < 0).any():
            wrong = f"the variance {float(value.min()):.3g}"
        if wrong:
            raise ModelError(
                f"{path}: expected finite numbers, and variances from 0, found {wrong} in {name}: "
                "the training that wrote it diverged, or half precision overflowed; take an earlier checkpoint"
            )
    expected = model.state_dict()
    foreign_heads = None  # why the heads of this file are of no use, if it says itself that they are for other classes
    if header.get("project") == PROJECT:
        _, found, _ = parse_header(path, header)
        if found != tuple(classes) if classes is not None else len(found) != model.num_classes:
            foreign_heads = f"a head for other classes ({', '.join(found)})"
    taken: dict[str, Tensor] = {}
    skipped: list[Skipped] = []
    for name, value in sorted(tensors.items(), key=lambda item: f".{AVERAGE}" not in f".{item[0]}"):
        target = _target(name, expected)
        if target is None:
            skipped.append(Skipped(name, f"no such tensor in {model.name}"))
        elif target in taken:
            skipped.append(Skipped(name, f"a second tensor for {target}"))
        elif not isinstance(value, Tensor):
            skipped.append(Skipped(name, f"a {type(value).__name__}, not a tensor"))
        elif foreign_heads and not target.startswith(BACKBONE):
            skipped.append(Skipped(name, foreign_heads))
        elif value.shape != expected[target].shape:
            wanted = tuple(expected[target].shape)
            skipped.append(Skipped(name, f"shape {tuple(value.shape)} where {wanted} is expected"))
        elif value.layout != torch.strided or value.is_quantized or value.is_complex():
            skipped.append(Skipped(name, "not a dense tensor of real numbers"))
        else:
            taken[target] = value
    # Batch norm's vectors and counters may fit by accident: a backbone without a single kernel is none.
    if not any(name.startswith(BACKBONE) and value.ndim > 1 for name, value in taken.items()):
        weights = model.backbone.state_dict().items()
        kernel = next(f"{name} {tuple(value.shape)}" for name, value in weights if value.ndim > 1)
        first = f", the first, {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise ModelError(
            f"{path}: expected convolution kernels of {model.name}'s backbone, such as {kernel}; "
            f"found {len(tensors)} entries and none that fits{first}; "
            "`model` must be the network that the file is of (mobile-centernet info --all lists them)"
        )
    model.load_state_dict(taken, strict=False)
    new = tuple(name for name in expected if name not in taken)
    return LoadReport(path, model.name, tuple(taken), tuple(skipped), new)


def _read(path: Path) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """The file's entries by name, and the header of a safetensors file."""
    if not path.is_file():
        raise ModelError(f"{path}: expected a file of initial weights, found no such file")
    if path.suffix == ".safetensors":
        header, tensors = read_safetensors(path)
        return tensors, header
    if path.suffix not in TORCH_SUFFIXES:
        raise ModelError(
            f"{path}: expected a file of weights (.safetensors, {', '.join(TORCH_SUFFIXES)}), found '{path.suffix}'; "
            "rename it after what it is"
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch.load never looks at the checksums of records
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        with torch.serialization.safe_globals([NumpyStandIn, *((NumpyStandIn, name) for name in NUMPY_NAMES)]):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        found = "a damaged file or another kind of pickle"
        if refused:
            found = (
                f"{refused[1]!r}, which could run code; if you trust the file, save its weights alone: import torch; "
                f"content = torch.load({str(path)!r}, map_location='cpu', weights_only=False); "
                "weights = content.get('state_dict', content); "
                "torch.save({name: value for name, value in weights.items() if torch.is_tensor(value)}, 'weights.pth')"
            )
        raise ModelError(f"{path}: expected a torch checkpoint of tensors and plain values, found {found}") from error
    except UNREADABLE as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{path}: expected a complete torch checkpoint, found a damaged one: {first_line}") from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: expected tensors by name, found a {type(content).__name__}")
    for _ in range(DEEPEST):
        inside = [content[key] for key in WEIGHT_KEYS if isinstance(content.get(key), Mapping)]
        # An average's settings, or nothing at all, may be under a key of weights, too.
        weights = [each for each in inside if any(isinstance(value, Tensor | Mapping) for value in each.values())]
        content = weights[0] if weights else content
    return {str(name): value for name, value in content.items()}, {}


def _target(name: str, expected: Mapping[str, Tensor]) -> str | None:
    """The model's name for a tensor of the file."""
    for candidate in (name, BACKBONE + name):
        if candidate in expected:
            return candidate
    bare = _unwrapped(name)
    return None if bare == name else _target(bare, expected)


def _unwrapped(name: str) -> str:
    """`name` without its first prefix, if it is a wrapper's."""
    return next((name.removeprefix(prefix) for prefix in WRAPPERS if name.startswith(prefix)), name)


def _count_by_module(names: Sequence[str]) -> str:
    """`4 (conv1 1, layer1 3)`: how many tensors, and of which modules."""
    modules = Counter[str]()
    for name in names:
        while (bare := _unwrapped(name)) != name:
            name = bare
        modules[name.partition(".")[0]] += 1
    return f"{len(names)} ({', '.join(f'{module} {count}' for module, count in modules.items())})"
