"""Which version of the registered model the exported files are, as `python -m steps register` wrote it down here."""

from pydantic import BaseModel, ConfigDict, Field

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import Params


class Registration(BaseModel):
    """data/reports/registration.json, and what a ZenML step hands to the gate."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="of the registered model")
    version: int = Field(description="its number in the registry, by which a scheduled run judges it: no alias")
    onnx_sha256: str
    export_sha256: str = Field(description="digest of all that a device gets of it, see `exported_digest`")


def exported_digest(params: Params) -> str:
    """Of what a device runs and goes by: all exported graphs, and what `register.bundle` says to it beside them.

    A version is known by it, so that the same is never two versions, and a changed threshold is one of its own. Of the
    golden images only the number counts: new test frames make no other model.
    """
    graphs = {path.name: file_digest(path) for path in paths.EXPORT.glob("model.*.onnx")}
    return fingerprint({"graphs": graphs, "bundle": params.register_.bundle.model_dump(mode="json")})


def registered(params: Params) -> Registration | None:
    """Of data/export and params as they are now; None where that was not registered from here under `register.name`."""
    if not paths.REGISTRATION.is_file():
        return None
    found = Registration.model_validate_json(paths.REGISTRATION.read_text(encoding="utf-8"))
    return found if (found.name, found.export_sha256) == (params.register_.name, exported_digest(params)) else None
