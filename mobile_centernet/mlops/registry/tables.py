"""`mobile-centernet registry`: what its commands print."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mobile_centernet.errors import UserError
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import Registry, Version
from mobile_centernet.mlops.registry.signed_bundle import KEY_VARIABLE, sign_again, signing_key
from mobile_centernet.mlops.registry.version_files import MANIFEST, VersionFiles

SHOWN_DIGITS = 12


def list_versions(name: str, as_json: bool) -> str:
    """A table of all versions, newest first."""
    registry = Registry(name)
    aliases = _by_number(registry.aliases())
    versions = list(reversed(registry.versions()))
    if as_json:
        return json.dumps([_document(version, aliases) for version in versions], indent=2)
    if not versions:
        return f"{name}: no versions yet (python -m steps register makes the first)"
    rows = [
        (
            str(version.number),
            ", ".join(aliases.get(version.number, ())) or ("withdrawn" if "withdrawn" in version.tags else "-"),
            version.tags.get("map50", "-"),
            f"{version.created:%Y-%m-%d %H:%M}",
            version.tags.get("onnx_sha256", "-")[:SHOWN_DIGITS],
            version.tags.get("git_commit", "-")[:SHOWN_DIGITS],
        )
        for version in versions
    ]
    return _table([("version", "aliases", "mAP@0.5", "registered, UTC", "ONNX sha256", "commit"), *rows])


def show_version(name: str, which: str, as_json: bool) -> str:
    """Everything that is known about one version."""
    registry = Registry(name)
    version = registry.resolve(which)
    aliases = _by_number(registry.aliases())
    with TemporaryDirectory() as folder:
        files = _files(registry, version, Path(folder))
        manifest = json.loads((files.folder / MANIFEST).read_text(encoding="utf-8"))
        parity = files.parity
    if as_json:
        return json.dumps(_document(version, aliases) | {"manifest": manifest, "parity": parity}, indent=2)
    rows = [
        ("version", f"{version.number} of {name}"),
        ("aliases", ", ".join(aliases.get(version.number, ())) or "-"),
        ("registered", f"{version.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("model", manifest["model"]),
        ("classes", ", ".join(manifest["classes"])),
        ("input", "{width}x{height}".format(**manifest["input_size"])),
        *((f"parity {key}", "within limits" if value is True else str(value)) for key, value in parity.items()),
        *sorted(version.tags.items()),
        *((key, f"{file['bytes']} bytes, sha256 {file['sha256']}") for key, file in manifest["files"].items()),
    ]
    return _table(rows)


def diff_versions(name: str, first: str, second: str, as_json: bool) -> str:
    """Tags and params that differ."""
    registry = Registry(name)
    versions = [registry.resolve(which) for which in (first, second)]
    with TemporaryDirectory() as folder:
        left, right = (
            {f"params {key}": value for key, value in _flat(_files(registry, version, Path(folder, side)).params)}
            | dict(version.tags)
            for side, version in zip("12", versions, strict=True)
        )
    changed = {key: (left.get(key), right.get(key)) for key in sorted(left | right) if left.get(key) != right.get(key)}
    if as_json:
        return json.dumps(changed, indent=2)
    numbers = tuple(f"version {version.number}" for version in versions)
    if not changed:
        return f"{numbers[0]} and {numbers[1]} of {name} do not differ"
    return _table([("", *numbers), *((key, *map(_short, pair)) for key, pair in changed.items())])


def download_version(name: str, which: str, out: Path) -> str:
    """Fill the folder `out`; nothing is left there when a file is not the registered one."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: expected a new or empty folder, found something in it")
    registry = Registry(name)
    version = registry.resolve(which)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        _files(registry, version, Path(folder)).folder.rename(out)
    return f"{out}: version {version.number} of {name}, {len(list(out.iterdir()))} files checked"


def release_version(params: Params, which: str) -> str:
    """Raises UserError without a signing key, or where the present bundle has no trusted signature."""
    key = signing_key()
    if key is None:
        raise UserError(f"{KEY_VARIABLE}: expected the file of the key that signs releases, found no such variable")
    registry = Registry(params.register_.name)
    version = registry.resolve(which)
    return f"version {version.number} of {registry.name} is release {sign_again(registry, version, params, key)} now"


def _files(registry: Registry, version: Version, folder: Path) -> VersionFiles:
    return VersionFiles.checked(registry.download(version, folder), version.tags.get("manifest_sha256"))


def _by_number(aliases: Mapping[str, int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for alias, number in sorted(aliases.items()):
        found.setdefault(number, []).append(alias)
    return found


def _document(version: Version, aliases: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    return {
        "version": version.number,
        "aliases": list(aliases.get(version.number, ())),
        "registered": version.created.isoformat(),
        "run_id": version.run_id,
        "tags": dict(sorted(version.tags.items())),
    }


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of params.yaml by their dotted names; a list is one leaf."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.dumps(tree)


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= 40 else f"{value[:SHOWN_DIGITS]}..."


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
