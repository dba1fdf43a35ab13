"""`models:/NAME@ALIAS` for the commands of `mobile-centernet`, by the entry point group `mobile_centernet.models`."""

import re
from pathlib import Path

from mobile_centernet.errors import UserError


def fetch(uri: str, folder: Path) -> Path:
    """Download the version into `folder`, check its files, and return the exported file that devices run.

    `uri` is `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Raises UserError where it is neither, RegistryError where
    the registry does not answer or does not hold it, or a file is not the registered one.
    """
    from mobile_centernet.mlops.registry.registry import Registry
    from mobile_centernet.mlops.registry.version_files import VersionFiles

    parts = re.fullmatch(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if parts is None:
        raise UserError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
    registry = Registry(parts[1])
    version = registry.resolve(parts[2] or parts[3])
    files = VersionFiles.checked(registry.download(version, folder), version.tags.get("manifest_sha256"))
    precision = files.params["promotion"]["precision"]
    model = files.model(precision)
    if not model.is_file():
        raise UserError(f"{uri}: expected {model.name} in version {version.number}, found none")
    return model
