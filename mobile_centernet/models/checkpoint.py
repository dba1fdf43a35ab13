"""A model as one safetensors file: weights, and in its header what it takes to build and use the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobile_centernet.errors import ModelError
from mobile_centernet.files import write_atomically
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model

PROJECT = "mobile-centernet"
FORMAT = "1"


@dataclass(frozen=True)
class LoadedModel:
    """A model file, read: `model` is in eval mode on the CPU, `input_size` is (height, width)."""

    model: CenterNet
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    metadata: Mapping[str, str]


def save_model(
    model: CenterNet,
    path: Path,
    *,
    classes: Sequence[str],
    input_size: tuple[int, int],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write `model` to `path` whole or not at all. `extra` joins the header (params, data digest, metrics …).

    Raises ModelError when the class list doesn't fit the model.
    """
    if len(classes) != model.num_classes:
        raise ModelError(f"{path}: expected {model.num_classes} class names, found {len(classes)}")
    metadata = dict(extra or {}) | {
        "project": PROJECT,
        "format": FORMAT,
        "name": model.name,
        "classes": json.dumps(list(classes)),
        "input_size": json.dumps(list(input_size)),
    }
    # safetensors refuses strided tensors, which the weights of a channels_last model are.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(tensors, metadata)

    # safetensors writes the metadata in another order every time, but the same model shall be the same file: sort it.
    # Format: the header's length (8 bytes, little-endian), the header (JSON, padded with spaces to 8 bytes), tensors.
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write_atomically(path, len(text).to_bytes(8, "little") + text + content[start:])


def load_model(path: Path, classes: Sequence[str] | None = None) -> LoadedModel:
    """Read what `save_model` wrote.

    Args:
        path: a `.safetensors` file.
        classes: what the network must tell apart, in this order; None: whatever it does.

    Returns:
        The network, in eval mode on the CPU, with its classes and its input size.

    Raises:
        ModelError: the file is missing, truncated, not ours, of other classes, or its weights don't fit its header.
    """
    metadata, tensors = read_safetensors(path)
    if metadata.get("project") != PROJECT or metadata.get("format") != FORMAT:
        kind = f"project {metadata.get('project')!r}, format {metadata.get('format')!r}"
        raise ModelError(f"{path}: expected a {PROJECT} model of format {FORMAT}, found {kind}")
    name, found_classes, input_size = parse_header(path, metadata)
    if classes is not None and found_classes != tuple(classes):
        raise ModelError(f"{path}: expected the classes {tuple(classes)}, found {found_classes}")
    try:
        model = build_model(name, len(found_classes))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    # The same check as load_state_dict's, in one sentence instead of one line per tensor.
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong:
        first = wrong[0]
        raise ModelError(
            f"{path}: {len(wrong)} tensors do not fit {model.name} with {model.num_classes} classes; "
            f"the first, {first}: expected shape {expected.get(first)}, found {found.get(first)}"
        )
    model.load_state_dict(tensors)
    return LoadedModel(model.eval(), found_classes, input_size, metadata)


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors (on the CPU) of any safetensors file. Raises ModelError where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 safe_open is no dict
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: expected a complete safetensors file: {error}") from error


def parse_header(path: Path, metadata: Mapping[str, str]) -> tuple[str, tuple[str, ...], tuple[int, int]]:
    """The model's name, its classes and (height, width), as `save_model` wrote them. Raises ModelError if it didn't."""
    try:
        classes = tuple(str(name) for name in json.loads(metadata["classes"]))
        height, width = (int(side) for side in json.loads(metadata["input_size"]))
        return metadata["name"], classes, (height, width)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected name, classes and input_size in the header: {error!r}") from error
