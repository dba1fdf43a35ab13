"""Let the gate decide whether the challenger becomes the champion, or go back to the previous one.

Killed at any moment, it leaves one champion, and running it again completes what it began: `previous` is written
first, `champion` in one step after it, tags and the audit line last.
"""

import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    WITHDRAWN,
    Registry,
    RegistryError,
    Version,
)

if TYPE_CHECKING:
    from mobile_centernet.mlops.promotion.decide import FurtherCheck

DONE, FAILED, LOCKED, REJECTED = 0, 1, 11, 12

DECISION, PAGE, AUDIT = (paths.PROMOTION / name for name in ("decision.json", "index.html", "audit.jsonl"))

PROMOTED_AT = "promoted_at"

logger = logging.getLogger(__name__)

FURTHER_CHECKS: "tuple[FurtherCheck, ...]" = ()
"""Checks of a version beside the gate's own table and `release_checks`, for programs."""


@dataclass(frozen=True, slots=True)
class PromotionOutcome:
    """How a promotion ended: the exit code, and the sentence to print."""

    code: int
    message: str


def promote(
    params: Params, *, which: str = CHALLENGER, approved_by: str | None = None, dry_run: bool = False
) -> PromotionOutcome:
    """Judge version `which` (a number or an alias) and, when every check passes, make it the champion.

    Raises UserError where nothing can be judged, or where somebody moved an alias meanwhile; no alias changes then.
    """
    with _locked() as free:
        if not free:
            return PromotionOutcome(LOCKED, f"another promotion is running ({paths.PROMOTION_LOCK})")
        from mobile_centernet.mlops.promotion.decide import (
            decide_about,  # takes seconds to import, and a rollback does without
        )
        from mobile_centernet.mlops.promotion.release_checks import release_checks

        registry = Registry(params.register_.name)
        seen = registry.aliases()
        version = registry.resolve(which)
        if seen.get(CHAMPION) == version.number:
            if PROMOTED_AT not in version.tags and not dry_run:  # a promotion was cut off after its last alias
                _finish(registry, version, seen.get(PREVIOUS), approved_by)
            return PromotionOutcome(DONE, f"{registry.name} version {version.number} is the champion already")
        decision = decide_about(
            registry,
            version,
            seen.get(CHAMPION),
            params,
            paths.PROMOTION,
            approved_by=approved_by,
            dry_run=dry_run,
            further=(*release_checks(registry, seen.get(CHAMPION), params), *FURTHER_CHECKS),
        )
        would = "would be" if dry_run else "was"
        passed = f"promoted: {len(decision.checks)} checks passed"
        how = passed if decision.promote else f"rejected: {', '.join(decision.failed)}"
        message = f"{registry.name} version {version.number} {would} {how} ({PAGE})"
        if dry_run:
            return PromotionOutcome(DONE if decision.promote else REJECTED, message)
        registry.attach(version, paths.PROMOTION, f"promotion/{_now()}")
        if not decision.promote:
            _audit("rejected", registry, version, seen.get(CHAMPION), approved_by, failed=decision.failed)
            return PromotionOutcome(REJECTED, message)
        _audit("promoting", registry, version, seen.get(CHAMPION), approved_by)

        # Move the aliases. The registry has no compare-and-set: those that the decision rests on are read again right
        # before each write, and the outcome after the last.
        watched = {alias: seen.get(alias) for alias in (CHAMPION, *([which] if which in seen else []))}
        _expect(registry, watched)
        if (old := seen.get(CHAMPION)) is not None:
            registry.set_alias(PREVIOUS, old)
            _expect(registry, watched)
        registry.set_alias(CHAMPION, version.number)
        _expect(registry, {CHAMPION: version.number})
        _finish(registry, version, seen.get(CHAMPION), approved_by)
        return PromotionOutcome(DONE, message)


def rollback(params: Params, by: str) -> PromotionOutcome:
    """Make `previous` the champion again, and withdraw the version that was: only a person brings it back.

    Raises UserError where there is no other version to go back to, or where somebody moved an alias meanwhile.
    """
    from mobile_centernet.mlops.registry.signed_bundle import (
        KEY_VARIABLE,
        is_attached,
        release_of,
        sign_again,
        signing_key,
    )

    with _locked() as free:
        if not free:
            return PromotionOutcome(LOCKED, f"another promotion is running ({paths.PROMOTION_LOCK})")
        registry = Registry(params.register_.name)
        seen = registry.aliases()
        if CHAMPION not in seen or seen.get(PREVIOUS, seen[CHAMPION]) == seen[CHAMPION]:
            found = ", ".join(f"{alias} version {number}" for alias, number in sorted(seen.items())) or "no aliases"
            raise RegistryError(f"{registry.name}: expected a previous version other than the champion, found {found}")
        bad, good = registry.version(seen[CHAMPION]), registry.version(seen[PREVIOUS])

        # Devices take no smaller release than they run, so the version that they shall go back to needs a larger one.
        key = None
        signed = is_attached(bad) or params.promotion.require_signed
        if signed and release_of(good) <= release_of(bad) and (key := signing_key()) is None:
            raise RegistryError(
                f"{registry.name}: devices run release {release_of(bad)} and refuse version {good.number}, release "
                f"{release_of(good) or 'none'}: a rollback needs the signing key's file in {KEY_VARIABLE}"
            )
        _audit("rolling back", registry, good, bad.number, by)
        if key:
            release = sign_again(registry, good, params, key)
            logger.info("signed: version %d is release %d now", good.number, release)
        registry.tag(bad.number, **{WITHDRAWN: f"rolled back by {by}, {_now()}"})
        registry.untag(bad, PROMOTED_AT)
        _expect(registry, {CHAMPION: bad.number, PREVIOUS: good.number})
        registry.set_alias(CHAMPION, good.number)
        _expect(registry, {CHAMPION: good.number})
        _audit("rolled back", registry, good, bad.number, by)
        return PromotionOutcome(
            DONE, f"{registry.name}: version {good.number} is the champion again, {bad.number} is withdrawn"
        )


def _expect(registry: Registry, expected: Mapping[str, int | None]) -> None:
    found = registry.aliases()
    for alias, number in expected.items():
        if found.get(alias) != number:
            raise RegistryError(
                f"{registry.name}: expected alias {alias} on version {number or 'none'}, found it on version "
                f"{found.get(alias, 'none')}: somebody moved it meanwhile; look at it, then run this again"
            )


def _finish(registry: Registry, version: Version, replaced: int | None, approved_by: str | None) -> None:
    _audit("promoted", registry, version, replaced, approved_by)
    registry.untag(version, WITHDRAWN)
    more = {"approved_by": approved_by} if approved_by else {}
    registry.tag(version.number, replaced=str(replaced or "none"), **more, **{PROMOTED_AT: _now()})


def _audit(
    event: str, registry: Registry, version: Version, other: int | None, by: str | None, failed: tuple[str, ...] = ()
) -> None:
    """One line that reaches the disk before anything else happens."""
    line = {
        "time": _now(),
        "event": event,
        "name": registry.name,
        "version": version.number,
        "champion_before": other,
        "by": by,
        "user": lineage.user(),
        "host": platform.node(),
        "failed": list(failed),
        "decision_sha256": file_digest(DECISION) if DECISION.is_file() and "roll" not in event else None,
    }
    paths.PROMOTION.mkdir(parents=True, exist_ok=True)
    with AUDIT.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked() -> Iterator[bool]:
    """Whether this process is the only one that promotes; the kernel frees the lock of a killed one."""
    paths.PROMOTION_LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.PROMOTION_LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
