"""The gate before promotion: facts about a challenger and the champion in, a table of checks and a decision out.

A pure function. Whoever calls it measures the facts again, on exported files and on one test set; see `steps.promote`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Value = float | str | None
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of a challenger.

    map50:      least mAP@0.5, with or without a champion
    ap50:       least AP at IoU 0.5 by class; `default` stands for the classes that are not named
    epsilon:    how far the difference's lower bound may lie below 0
    mib:        largest size of the exported file
    latency_ms: longest time per image (median), on the machine that judges
    unseen:     least share of the test frames that is left to score, 0..1
    approval:   whether a person has to agree, too
    """

    map50: float
    ap50: Mapping[str, float]
    epsilon: float
    mib: float
    latency_ms: float
    unseen: float
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exported file of a version as measured now. `ap50` is None for a class without a box in the test set."""

    map50: float
    ap50: Mapping[str, float | None]
    mib: float
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """Challenger minus champion in mAP@0.5, by the paired bootstrap."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Scored:
    """Both versions' files of one precision; champion and difference are None where the champion has no such file."""

    challenger: Candidate
    champion: Candidate | None = None
    difference: Bounds | None = None


@dataclass(frozen=True, slots=True)
class TestSet:
    """What both were scored on.

    leaked:   test videos or images with which the challenger was trained; there may be none
    left_out: those with which the champion was trained; they were not scored
    frames, scored: how many there are, and how many were scored
    """

    __test__ = False  # pytest takes classes of this name for tests

    name: str
    frames: int
    scored: int
    leaked: Sequence[str] = ()
    left_out: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision depends on.

    challenger, champion: the versions; without a champion None
    scored:     by precision, all that devices run and the challenger has
    required:   the precision that every version has
    missing:    precisions that devices run of the champion, and that the challenger has not
    same_weights: both are exports of one trained network
    parity:     by exported precision, and `engine`: True, False, or in words why it was not compared
    withdrawn:  in words who rolled this version back, if someone did
    approved_by: who agreed
    """

    challenger: str
    champion: str | None
    scored: Mapping[str, Scored]
    test_set: TestSet
    parity: Mapping[str, bool | str]
    required: str
    missing: Sequence[str] = ()
    same_weights: bool = False
    withdrawn: str | None = None
    approved_by: str | None = None

    @property
    def gain(self) -> float | None:
        """Challenger minus champion in mAP@0.5, the mean of the precisions that both have; None without a champion."""
        found = [each.difference.value for each in self.scored.values() if each.difference]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table: the challenger's value, the champion's beside it, and the limit as people read it."""

    name: str
    value: Value
    champion: Value
    limit: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote when every check passed; `failed` names those that did not."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if not check.passed)

    @property
    def promote(self) -> bool:
        return not self.failed

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "decision": "promote" if self.promote else "reject",
            "failed": list(self.failed),
            "checks": [asdict(check) for check in self.checks],
        }


def decide(facts: Facts, limits: Limits, further: Sequence[Check] = ()) -> Decision:
    """Every check, whether an earlier one failed or not, then `further` ones of the caller.

    A value that is not a number passes no check. Raises ValueError where the required precision was not scored, for a
    champion without a difference in it, a difference without a champion, or facts about one version twice.
    """
    if facts.required not in facts.scored:
        raise ValueError(f"expected scores of {facts.required}, found those of {', '.join(facts.scored) or 'none'}")
    of_required = facts.scored[facts.required].difference
    if (facts.champion is None) != (of_required is None) or (facts.champion is None) != (facts.gain is None):
        raise ValueError("expected a difference exactly where there is a champion")
    if facts.champion == facts.challenger:
        raise ValueError(f"expected two versions, found version {facts.challenger} twice")

    # The floors, and what a device has room and time for.
    checks: list[Check] = []
    for precision, each in facts.scored.items():
        ours, theirs = each.challenger, each.champion
        values: list[tuple[str, float | None, float | None, float]] = [
            (f"mAP@0.5 of {precision}", ours.map50, theirs.map50 if theirs else None, limits.map50)
        ]
        for name, value in ours.ap50.items():
            floor = limits.ap50.get(name, limits.ap50.get(DEFAULT, 0.0))
            values.append((f"AP@0.5 of {name}, {precision}", value, theirs.ap50.get(name) if theirs else None, floor))
        for name, value, before, floor in values:
            passed = floor <= 0 if value is None else value >= floor
            checks.append(
                Check(name, "no box to find" if value is None else value, before, f"at least {floor:g}", passed)
            )
        mib, latency = (theirs.mib, theirs.latency_ms) if theirs else (None, None)
        for name, value, before, most in (
            (f"size in MiB of {precision}", ours.mib, mib, limits.mib),
            (f"latency in ms per image of {precision}", ours.latency_ms, latency, limits.latency_ms),
        ):
            checks.append(Check(name, value, before, f"at most {most:g}", value <= most))
    checks += [Check(f"a file of {name}", "none", "one", "as the champion has", False) for name in facts.missing]

    # Ties lose: the best guess must be better, over all files that devices run, and it must be unlikely that any of
    # them is worse by more than ε. Another export of the champion's own network is somebody's intent: there ties win.
    gain, better = facts.gain, "better than the champion"
    if gain is None:
        checks.append(Check(better, "no champion yet", None, "above 0", True))
    elif facts.same_weights:
        checks.append(Check(better, gain, None, "at least 0, as the weights are the same", gain >= 0))
    else:
        checks.append(Check(better, gain, None, "above 0", gain > 0))
    for precision, each in facts.scored.items():
        if each.difference:
            lower = each.difference.lower
            name = f"lower bound of the difference, {precision}"
            checks.append(Check(name, lower, None, f"above −{limits.epsilon:g}", lower > -limits.epsilon))

    # Nothing that was scored may have been trained on.
    test, limit = facts.test_set, "none of the challenger's"
    left_out = f"{_some(test.left_out)}: not scored" if test.left_out else None
    checks.append(Check("test material seen in training", _some(test.leaked), left_out, limit, not test.leaked))
    share = test.scored / test.frames if test.frames else 0.0
    checks.append(
        Check("share of test frames scored", share, None, f"at least {limits.unseen:g}", share >= limits.unseen)
    )

    # Exported files against torch. Those that devices run must have been compared; others must not differ.
    for name, verdict in {**dict.fromkeys(facts.scored, "not compared"), **facts.parity}.items():
        said = verdict if isinstance(verdict, str) else "within limits" if verdict else "past a limit"
        if name in facts.scored:
            checks.append(Check(f"parity of {name}", said, None, "within limits", verdict is True))
        else:
            checks.append(Check(f"parity of {name}", said, None, "within limits, where compared", verdict is not False))

    # What a person withdrew, only a person may bring back.
    if facts.withdrawn:
        why = f"{facts.withdrawn}; approved by {facts.approved_by}" if facts.approved_by else facts.withdrawn
        checks.append(Check("not withdrawn", why, None, "never, or approved since", bool(facts.approved_by)))
    if limits.approval or facts.approved_by:
        checks.append(Check("approval", facts.approved_by or "nobody", None, "by a person", bool(facts.approved_by)))
    return Decision((*checks, *further))


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more if items else "none"
