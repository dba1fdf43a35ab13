"""`models:/NAME@ALIAS` for the commands of `mobile-centernet`, by the entry point group `mobile_centernet.models`."""

import re
from contextlib import suppress
from pathlib import Path

import yaml

from mobile_centernet.errors import UserError


def fetch(uri: str, folder: Path) -> Path:
    """Download the version into `folder`, check its files, and return the exported file that devices run.

    `uri` is `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Raises UserError where it is neither, RegistryError where
    the registry does not answer or does not hold it, or a file is not the registered one: inside the model's own
    project by signatures, elsewhere by the registry's own word.
    """
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.paths import PARAMS
    from mobile_centernet.mlops.registry.published import pinned_files
    from mobile_centernet.mlops.registry.registry import Registry

    parts = re.fullmatch(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if parts is None:
        raise UserError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    registry = Registry(parts[1])
    version = registry.resolve(parts[2] or parts[3])
    named = None  # a params.yaml of something else may be here
    with suppress(yaml.YAMLError, OSError, KeyError, TypeError):
        named = yaml.safe_load(PARAMS.read_bytes())["register"]["name"]
    files = pinned_files(registry, version, folder, load_params(PARAMS) if named == registry.name else None)
    precision = files.params["promotion"]["precision"]
    model = files.model(precision)
    if not model.is_file():
        raise UserError(f"{uri}: expected {model.name} in version {version.number}, found none")
    return model
