"""NVIDIA's real Python bindings, behind a check of every name, argument and type that our code uses.

The bindings need a GPU to make any object. So objects are stand-ins that know their real class: an attribute must
exist there, a call must fit the signature that pybind11 wrote into its docstring, and what it returns is a stand-in
of the class that the signature promises. Plain values (numbers, names, shapes) come from `answers`.
"""

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

Answers = Mapping[str, Callable[..., Any]]


class MismatchError(AssertionError):
    """The code asks for something that this version of the bindings does not have."""


class CheckedModule(ModuleType):
    """Takes the place of the module `tensorrt`; `calls` records what was used, such as `Builder.create_network`."""

    def __init__(self, bindings: ModuleType, answers: Answers) -> None:
        super().__init__("tensorrt")
        self._bindings, self._answers = bindings, answers
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._bindings, name)  # an AttributeError is the finding
        if isinstance(real, type) and not hasattr(real, "__members__"):
            return CheckedClass(self, real)
        return real


class CheckedClass:
    def __init__(self, module: CheckedModule, real: type) -> None:
        self._module, self._real = module, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __call__(self, *args: Any) -> "Instance":
        _check(self._module, f"{self._real.__name__}.__init__", self._real.__init__.__doc__, args)
        return Instance(self._module, self._real)


class Instance:
    """An object of a class of the bindings, which was never made."""

    def __init__(self, module: CheckedModule, real: type) -> None:
        self._module, self._real = module, real

    def __getattr__(self, name: str) -> Any:
        what, attribute = f"{self._real.__name__}.{name}", getattr(self._real, name)
        if isinstance(attribute, property):
            returned = _check(self._module, what, attribute.fget.__doc__, ())
            return self._value(what, returned, ())

        def call(*args: Any) -> Any:
            return self._value(what, _check(self._module, what, attribute.__doc__, args), args)

        return call

    def __bytes__(self) -> bytes:
        if self._real.__name__ != "IHostMemory":
            raise MismatchError(f"{self._real.__name__} holds no bytes")
        return b"built"

    def _value(self, what: str, returned: str, args: tuple[Any, ...]) -> Any:
        if what in self._module._answers:
            return self._module._answers[what](*args)
        if returned in ("None", "bool"):
            return returned == "bool" or None
        real = _class(self._module._bindings, returned)
        if not isinstance(real, type) or hasattr(real, "__members__"):
            raise MismatchError(f"{what} returns {returned}: the test must answer it")
        return Instance(self._module, real)


def _check(module: CheckedModule, what: str, doc: str | None, args: tuple[Any, ...]) -> str:
    """The type that the fitting signature promises. Raises MismatchError when none fits."""
    module.calls.append((what, args))
    signatures = re.findall(r"^(?:\d+\. )?\w*\((.*)\) -> (.+?)$", doc or "", flags=re.MULTILINE)
    if not signatures:
        raise MismatchError(f"{what} has no signature: {doc!r}")
    for parameters, returned in signatures:
        wanted = [part for part in _split(parameters) if part.partition(":")[0] not in ("self", "arg0")]
        needed = [part for part in wanted if " = " not in part]
        if len(needed) <= len(args) <= len(wanted) and all(
            _fits(module._bindings, value, part.partition(": ")[2].partition(" = ")[0])
            for value, part in zip(args, wanted, strict=False)
        ):
            return returned.strip()
    raise MismatchError(f"{what}{args} fits none of {signatures}")


def _split(parameters: str) -> list[str]:
    """At commas that are in no bracket."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _named(kind: str) -> str:
    """Without the module: `ILogger.Severity`, `SupportsInt`."""
    return re.sub(r"^(tensorrt_bindings\.tensorrt\.|typing\.|typing_extensions\.|nvinfer1::|nvonnxparser::)", "", kind)


def _class(bindings: ModuleType, kind: str) -> Any:
    """The class of the bindings, or None for one that they don't show."""
    found: Any = bindings
    for name in _named(kind).split("."):
        found = getattr(found, name, None)
    return found


def _fits(bindings: ModuleType, value: Any, kind: str) -> bool:
    plain = {"int": int, "SupportsInt": int, "str": str, "bool": bool, "buffer": bytes, "Buffer": bytes}
    if wanted := plain.get(_named(kind)):
        return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    real = _class(bindings, kind)
    if real is None:
        raise MismatchError(f"{kind}: the check knows no such type")
    return issubclass(value._real, real) if isinstance(value, Instance) else isinstance(value, real)
