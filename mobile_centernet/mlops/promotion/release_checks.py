"""Checks of a version's release beside the gate's own table: its signed bundle, and how devices that tried it fared."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mobile_centernet.bundle.protocol import BUNDLE_RELEASE, BUNDLE_SHA256, HEALTHY, read_enrolled, read_reports
from mobile_centernet.errors import UserError
from mobile_centernet.evaluation.gate import Check
from mobile_centernet.files import file_digest
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import Registry, Version
from mobile_centernet.mlops.registry.signed_bundle import verified
from mobile_centernet.trust.layout import CANARY

if TYPE_CHECKING:
    from mobile_centernet.mlops.promotion.decide import FurtherCheck
    from mobile_centernet.mlops.registry.version_files import VersionFiles


def release_checks(registry: Registry, champion: int | None, params: Params) -> "Iterator[FurtherCheck]":
    """Those that params ask for."""
    section = params.promotion
    if section.require_signed:
        reigning = registry.version(champion) if champion is not None else None
        yield lambda version, files: _signed(registry, version, reigning, files, params)
    if section.canaries.healthy:
        yield lambda version, files: _canaries(version, params)


def _signed(
    registry: Registry, version: Version, champion: Version | None, files: "VersionFiles", params: Params
) -> Check:
    """The bundle is signed by a trusted key, is of the very files that were scored, and newer than the champion's."""
    name = "signed bundle"
    before = champion.tags.get(BUNDLE_RELEASE) if champion else None
    beside = f"release {before}" if before else None
    limit = f"trusted, of these files, release above {before}" if before else "trusted, of these files"
    try:
        with TemporaryDirectory() as folder:
            manifest = verified(registry, version, params, Path(folder))
    except UserError as error:
        return Check(name, str(error), beside, limit, False)
    for precision, variant in manifest.variants.items():
        if manifest.files[variant.model].sha256 != file_digest(files.model(precision)):
            return Check(name, f"another model.{precision}.onnx than the registered one", beside, limit, False)
    if params.promotion.precision not in manifest.variants:
        return Check(name, f"without {params.promotion.precision}, which was scored", beside, limit, False)
    newer = not before or not before.isdecimal() or manifest.release > int(before)
    return Check(name, f"release {manifest.release}", beside, limit, newer)


def _canaries(version: Version, params: Params) -> Check:
    """Enrolled devices that follow the canary channel and reported on exactly this bundle, signed."""
    section = params.promotion.canaries
    enrolled = read_enrolled(section.devices) if section.devices else {}
    reports, unreadable = read_reports(version.tags, enrolled)
    digest = version.tags.get(BUNDLE_SHA256)
    about = [report for report in reports if report.bundle_sha256 == digest and report.channel == CANARY]
    healthy = [report.device for report in about if report.state == HEALTHY]
    against = [f"{report.device} {report.state}" for report in about if report.state != HEALTHY]
    found = [f"{len(healthy)} healthy", *against, *(f"{key} unreadable" for key in unreadable)]
    passed = len(healthy) >= section.healthy and len(against) <= section.most_against
    limit = f"at least {section.healthy} healthy, at most {section.most_against} against"
    return Check("canary devices", ", ".join(found), None, limit, passed)
