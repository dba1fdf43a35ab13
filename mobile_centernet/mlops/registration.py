"""Which version of the registered model the exported files are, as `python -m steps register` wrote it down here."""

from pydantic import BaseModel, ConfigDict, Field

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint


class Registration(BaseModel):
    """data/reports/registration.json, and what a ZenML step hands to the gate."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="of the registered model")
    version: int = Field(description="its number in the registry, by which a scheduled run judges it: no alias")
    onnx_sha256: str
    export_sha256: str = Field(description="digest of all exported graphs together, see `exported_digest`")


def exported_digest() -> str:
    """Of all exported graphs together: a version is known by it, so that the same files are never two versions."""
    return fingerprint({path.name: file_digest(path) for path in paths.EXPORT.glob("model.*.onnx")})


def registered(name: str) -> Registration | None:
    """Of the files in data/export as they are now; None where they were not registered from here under that name."""
    if not paths.REGISTRATION.is_file():
        return None
    found = Registration.model_validate_json(paths.REGISTRATION.read_text(encoding="utf-8"))
    return found if (found.name, found.export_sha256) == (name, exported_digest()) else None
