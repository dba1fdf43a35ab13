"""Releases of a small detector."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from mobile_centernet.bundle.bundle import verify_bundle

TIMESTAMP_FILE = "/metadata/timestamp.json"
BUNDLES = "/targets/bundles/"


@dataclass(frozen=True)
class Bundle:
    """A bundle's file, as version `version` of the registry."""

    path: Path
    version: str

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def file_digest(self) -> str:
        return sha256(self.content).hexdigest()

    @cached_property
    def digest(self) -> str:
        """Of its manifest: what a release is."""
        return verify_bundle(self.path).sha256
