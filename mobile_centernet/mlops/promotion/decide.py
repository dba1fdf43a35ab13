"""The gate's decision about one version: downloaded, compared, written down for programs and for people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mobile_centernet.errors import UserError
from mobile_centernet.evaluation.gate import DEFAULT, Check, Decision, Limits, decide
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.promotion.compare import compare_versions
from mobile_centernet.mlops.registry.registry import Registry, Version
from mobile_centernet.mlops.registry.version_files import VersionFiles
from mobile_centernet.reports.gate_page import write_gate_page

DECISION, PAGE = "decision.json", "index.html"

FurtherCheck = Callable[[Version, VersionFiles], Check]


def decide_about(
    registry: Registry,
    version: Version,
    champion: int | None,
    params: Params,
    out: Path,
    *,
    approved_by: str | None,
    dry_run: bool,
    further: Sequence[FurtherCheck],
    withdrawn: str | None,
    pinned: Mapping[int, str],
) -> Decision:
    """Compare `version` with the champion; decision.json and its page land in the folder `out`.

    Args:
        registry: has the files of both.
        version: the challenger.
        champion: the version that devices follow, if there is one.
        params, further: the limits, and checks beside the gate's own.
        out: a folder.
        approved_by, dry_run: for the record, and for the gate: the person who agrees.
        withdrawn: who rolled the challenger back, and when.
        pinned: by version, the signed digest that pins its files; of others the registry's tag has to do.

    Raises:
        UserError: the two cannot be compared.
    """
    section = params.promotion
    if unknown := set(section.min_ap50) - {DEFAULT, *params.classes}:
        known = ", ".join((DEFAULT, *params.classes))
        raise UserError(f"{paths.PARAMS}: promotion.min_ap50: expected {known}, found {', '.join(sorted(unknown))}")
    limits = Limits(
        map50=section.min_map50,
        ap50=section.min_ap50,
        epsilon=section.epsilon,
        mib=section.max_mib,
        latency_ms=section.max_latency_ms,
        unseen=section.min_unseen,
        approval=section.approval,
    )
    with TemporaryDirectory() as folder:  # fmt: skip

        def files(of: Version) -> tuple[Version, VersionFiles]:
            digest = pinned.get(of.number, of.tags.get("manifest_sha256"))
            return of, VersionFiles.checked(registry.download(of, Path(folder)), digest)

        challenger = files(version)
        comparison = compare_versions(
            challenger,
            files(registry.version(champion)) if champion is not None else None,
            params,
            withdrawn=withdrawn,
            approved_by=approved_by,
        )
        found = [check(*challenger) for check in further]
    decision = decide(comparison.facts, limits, found)

    bootstrap = {"resamples": section.resamples, "confidence": section.confidence, "seed": params.seed}
    judged_at = datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "name": registry.name,
        **decision.document(),
        "dry_run": dry_run,
        "judged_at": judged_at,
        "facts": asdict(comparison.facts),
        "limits": asdict(limits),
        "bootstrap": bootstrap,
        **comparison.digests,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / DECISION, document)
    details = {
        "Registered model": registry.name,
        "Judged at": judged_at + (" (dry run)" if dry_run else ""),
        "Bootstrap": ", ".join(f"{key} {value}" for key, value in bootstrap.items()),
        **comparison.digests,
    }
    write_gate_page(out / PAGE, decision, comparison.facts, limits, comparison.samples, details)
    return decision
