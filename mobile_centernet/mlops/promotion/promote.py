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
from typing import Any

from filelock import FileLock, Timeout

from mobile_centernet.errors import UserError
from mobile_centernet.files import file_digest, write_atomically
from mobile_centernet.mlops import lineage, paths
from mobile_centernet.mlops.params import Canaries, Params
from mobile_centernet.mlops.registry.published import Channel, SignedFacts, trust_repository
from mobile_centernet.mlops.registry.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    WITHDRAWN,
    Registry,
    RegistryError,
    Version,
)
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.layout import CANARY

DONE, FAILED, LOCKED, REJECTED = 0, 1, 11, 12

DECISION, PAGE, STAGED = (paths.PROMOTION / name for name in ("decision.json", "index.html", "staged.json"))
AUDIT = paths.AUDIT

PROMOTED_AT = "promoted_at"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PromotionOutcome:
    """How a promotion ended: the exit code, and the sentence to print."""

    code: int
    message: str


def promote(
    params: Params,
    *,
    which: str = CHALLENGER,
    approved_by: str | None = None,
    dry_run: bool = False,
    canary: bool = False,
    share: float | None = None,
) -> PromotionOutcome:
    """Judge version `which` (a number or an alias) and, when every check passes, have devices run it.

    With a trust repository that is a signed statement, and the champion is what the signed history says; the
    registry's aliases mirror it. Without one only the aliases move.

    Args:
        params: the limits, and where the repository and its keys are.
        which, dry_run, approved_by: the challenger; whether to judge it only; the person who agrees.
        canary: for the devices of that channel, which are asked before any person and any canary.
        share: of the channel's devices; None: all of them, or as many as run it already.

    Raises:
        UserError: nothing can be judged or signed, or somebody moved an alias meanwhile; no device changes then.
    """
    with _locked() as free:
        if not free:
            return PromotionOutcome(LOCKED, f"another promotion is running ({paths.PROMOTION_LOCK})")
        from mobile_centernet.mlops.promotion.decide import decide_about  # takes seconds: a rollback does without
        from mobile_centernet.mlops.promotion.release_checks import release_checks

        registry = Registry(params.register_.name)
        seen = registry.aliases()
        version = registry.resolve(which)
        channel, facts = None, SignedFacts(None, {}, version.tags.get(WITHDRAWN))
        if repository := trust_repository(params):
            reigning = Channel.read(repository, registry.name, CHAMPION)
            channel = Channel.read(repository, registry.name, CANARY) if canary else reigning
            seen, facts = reigning.aliases, reigning.judge(version.number)
        elif canary or share:
            raise UserError("trust.repository: expected the repository that devices follow, found none")
        if canary:
            asked = {"approval": False, "canaries": Canaries()}
            params = params.model_copy(update={"promotion": params.promotion.model_copy(update=asked)})
        head = channel.head if channel else None
        if (int(head.version) if head else None if channel else seen.get(CHAMPION)) == version.number:
            if not dry_run:
                _complete(registry, channel, version, seen.get(PREVIOUS), approved_by, share)
            said = f"{registry.name} version {version.number} is the {CANARY if canary else CHAMPION} already"
            return PromotionOutcome(DONE, said)
        decision = decide_about(
            registry,
            version,
            seen.get(CHAMPION),
            params,
            paths.PROMOTION,
            approved_by=approved_by,
            dry_run=dry_run,
            further=list(release_checks(facts.release, channel is not None, params)),
            withdrawn=facts.withdrawn,
            pinned=facts.pinned,
        )
        passed = f"promoted{' for canaries' if canary else ''}: {len(decision.checks)} checks passed"
        how = passed if decision.promote else f"rejected: {', '.join(decision.failed)}"
        message = f"{registry.name} version {version.number} {'would be' if dry_run else 'was'} {how} ({PAGE})"
        if dry_run:
            return PromotionOutcome(DONE if decision.promote else REJECTED, message)
        registry.attach(version, paths.PROMOTION, f"promotion/{_now()}")
        fields: dict[str, Any] = {"gate": file_digest(DECISION), "approver": approved_by, "share": share or 1.0}
        if not decision.promote:
            _audit("rejected", registry, version, seen.get(CHAMPION), approved_by, failed=decision.failed)
            if channel and decision.failed == ("approval",):
                write_atomically(STAGED, channel.stage(version.number, **fields).encode())
                message = f"{message}; who agrees signs it: mobile-centernet trust sign {STAGED} --approve-by NAME"
            return PromotionOutcome(REJECTED, message)
        _audit("promoting", registry, version, seen.get(CHAMPION), approved_by)
        if channel:
            _announce(channel, version.number, **fields)
        else:
            _move_aliases(registry, version, which, seen)
        _complete(registry, channel, version, seen.get(CHAMPION), approved_by, None)
        return PromotionOutcome(DONE, message)


def rollback(params: Params, by: str) -> PromotionOutcome:
    """Have devices run what they ran before, and withdraw the version that was: only a person brings it back.

    With a trust repository what was before is what the signed history says, and it needs the champion's key only: the
    registry is told afterwards. Without one it is what the alias `previous` says.

    Raises UserError where there is no other version to go back to, or where somebody moved an alias meanwhile.
    """
    with _locked() as free:
        if not free:
            return PromotionOutcome(LOCKED, f"another promotion is running ({paths.PROMOTION_LOCK})")
        name, channel = params.register_.name, None
        if repository := trust_repository(params):
            channel = Channel.read(repository, name, CHAMPION)
            head, before = channel.head, channel.previous
            if head is None or before is None:
                raise TrustError(f"{name}: expected an earlier release in the signed history, found none")
            numbers = int(head.version), int(before.version)
            _announce(channel, numbers[1], gate=before.gate, approver=by, withdraw=True)
        if channel is None:
            seen = Registry(name).aliases()
            if CHAMPION not in seen or seen.get(PREVIOUS, seen[CHAMPION]) == seen[CHAMPION]:
                known = ", ".join(f"{alias} version {number}" for alias, number in sorted(seen.items())) or "no aliases"
                raise RegistryError(f"{name}: expected a previous version other than the champion, found {known}")
            numbers = seen[CHAMPION], seen[PREVIOUS]
        said = f"{name}: version {numbers[1]} is the champion again, {numbers[0]} is withdrawn"
        try:
            registry = Registry(name)
            bad, good = map(registry.version, numbers)
            _audit("rolling back", registry, good, bad.number, by)
            registry.tag(bad.number, **{WITHDRAWN: f"rolled back by {by}, {_now()}"})
            registry.untag(bad, PROMOTED_AT)
            if channel:
                _mirror(registry, channel)
            else:
                _expect(registry, {CHAMPION: bad.number, PREVIOUS: good.number})
                registry.set_alias(CHAMPION, good.number)
                _expect(registry, {CHAMPION: good.number})
            _audit("rolled back", registry, good, bad.number, by)
        except RegistryError as error:
            if channel is None:
                raise
            # Run once more, it would go back one release further.
            said = f"{said}, for every device; it is done, only the registry was not told of it: {error}"
        return PromotionOutcome(DONE, said)


def _announce(channel: Channel, number: int, *, withdraw: bool = False, **fields: Any) -> None:
    """Sign and publish that the channel's devices run a version, or leave it to whom has the key."""
    staged = channel.stage(number, withdraw=withdraw, **fields)
    missing = staged.sign(channel.repository)
    paths.PROMOTION.mkdir(parents=True, exist_ok=True)
    write_atomically(STAGED, staged.encode())
    if missing:
        raise TrustError(f"{missing}; sign it where the key is: mobile-centernet trust sign {STAGED}")
    staged.publish(channel.repository)
    STAGED.unlink()


def _mirror(registry: Registry, channel: Channel) -> Channel:
    """Have the registry's aliases say what is signed now."""
    now = Channel.read(channel.repository, channel.model, channel.name)
    found = registry.aliases()
    for alias, number in now.aliases.items():
        if found.get(alias) != number:
            registry.set_alias(alias, number)
    return now


def _complete(
    registry: Registry,
    channel: Channel | None,
    version: Version,
    replaced: int | None,
    approved_by: str | None,
    share: float | None,
) -> None:
    """What is left to do once devices run a version: also after a promotion that was cut off, and for another share."""
    if channel:
        channel = _mirror(registry, channel)
        if channel.head and share not in (None, channel.head.share):
            _announce(channel, version.number, gate=channel.head.gate, approver=channel.head.approver, share=share)
        if channel.name == CANARY:
            return
    if PROMOTED_AT not in registry.version(version.number).tags:
        _finish(registry, version, replaced, approved_by)


def _move_aliases(registry: Registry, version: Version, which: str, seen: Mapping[str, int | None]) -> None:
    """The registry has no compare-and-set: aliases that the decision rests on are read again right before each write,
    and the outcome after the last."""
    watched = {alias: seen.get(alias) for alias in (CHAMPION, *([which] if which in seen else []))}
    _expect(registry, watched)
    if (old := seen.get(CHAMPION)) is not None:
        registry.set_alias(PREVIOUS, old)
        _expect(registry, watched)
    registry.set_alias(CHAMPION, version.number)
    _expect(registry, {CHAMPION: version.number})


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
