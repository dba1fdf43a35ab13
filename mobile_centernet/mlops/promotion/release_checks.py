"""Checks of a version's release beside the gate's own table: its listed bundle, and how devices that tried it fared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.evaluation.gate import Check
from mobile_centernet.files import file_digest
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import Version
from mobile_centernet.trust.layout import CANARY
from mobile_centernet.trust.reports import HEALTHY, read_enrolled, read_reports

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from mobile_centernet.mlops.promotion.decide import FurtherCheck
    from mobile_centernet.mlops.registry.version_files import VersionFiles

CANARIES_CHECK = "canary devices"


def release_checks(
    release: "tuple[TargetFile, Manifest] | None", signed: bool, params: Params
) -> "Iterator[FurtherCheck]":
    """Those that params ask for; `signed`: there is a repository, which lists the version's `release` or none."""
    if signed:
        yield lambda _, files: _listed(release and release[1], files, params)
    if params.promotion.canaries.healthy:
        digest = release[0].hashes["sha256"] if release else None
        yield lambda version, _: _canaries(version, digest, params)


def _listed(manifest: Manifest | None, files: "VersionFiles", params: Params) -> Check:
    """What devices would get is of the very files that were scored."""
    name, limit = "listed bundle", "of these files"
    if manifest is None:
        return Check(name, "none: python -m steps register lists it where its key is", None, limit, False)
    for precision, variant in manifest.variants.items():
        if manifest.files[variant.model].sha256 != file_digest(files.model(precision)):
            return Check(name, f"another model.{precision}.onnx than the registered one", None, limit, False)
    if params.promotion.precision not in manifest.variants:
        return Check(name, f"without {params.promotion.precision}, which was scored", None, limit, False)
    return Check(name, f"manifest {manifest.sha256[:12]}", None, limit, True)


def _canaries(version: Version, digest: str | None, params: Params) -> Check:
    """Enrolled devices that follow the canary channel and reported on exactly this bundle, signed."""
    section = params.promotion.canaries
    enrolled = read_enrolled(section.devices) if section.devices else {}
    reports, unreadable = read_reports(version.tags, enrolled)
    about = [report for report in reports if report.bundle_sha256 == digest and report.channel == CANARY]
    healthy = [report.device for report in about if report.state == HEALTHY]
    against = [f"{report.device} {report.state}" for report in about if report.state != HEALTHY]
    found = [f"{len(healthy)} healthy", *against, *(f"{key} unreadable" for key in unreadable)]
    passed = len(healthy) >= section.healthy and len(against) <= section.most_against
    limit = f"at least {section.healthy} healthy, at most {section.most_against} against"
    return Check(CANARIES_CHECK, ", ".join(found), None, limit, passed)
