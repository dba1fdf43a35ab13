"""Releases of a small detector, and how a registry offers them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.helpers.file_server import FileServer

ALIAS = "/api/2.0/mlflow/registered-models/alias"
ARTIFACT = "/get-artifact"


@dataclass(frozen=True)
class Bundle:
    """A signed bundle's file, as version `version` of the registry."""

    path: Path
    version: str
    release: int

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    def tags(self) -> dict[str, str]:
        content = self.content
        return {
            "bundle_sha256": sha256(content).hexdigest(),
            "bundle_bytes": str(len(content)),
            "bundle_release": str(self.release),
            "bundle_path": f"bundle/{self.path.name}",
        }

    def offer(self, server: FileServer, alias: str = "champion", tags: Mapping[str, str] | None = None) -> None:
        server.files[ALIAS] = answer(self.version, self.tags() if tags is None else tags)
        server.files[ARTIFACT] = self.content


def answer(version: str, tags: Mapping[str, str]) -> bytes:
    """What MLflow says to GET registered-models/alias."""
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    return json.dumps({"model_version": {"version": version, "run_id": "a" * 32, "tags": listed}}).encode()
