"""What the gate wants to know about two versions, measured now: never a score that somebody stored earlier.

The exported files of every precision that devices run are scored on the same frames of the prepared test set, through
the runtime that devices use. Frames that the champion was trained on are left out, so that it has no advantage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.store.prepared import PreparedSet, image_digests
from mobile_centernet.errors import DataError, ModelError
from mobile_centernet.evaluation.bootstrap import MatchedFrames, paired_bootstrap
from mobile_centernet.evaluation.coco_eval import CocoResult, MapResult, evaluate_map50, evaluated_images, restricted
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.evaluation.gate import Bounds, Candidate, Facts, Scored, TestSet
from mobile_centernet.files import file_digest
from mobile_centernet.inference.detector import median_latencies
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.registry.registry import Version
from mobile_centernet.mlops.registry.version_files import VersionFiles, video_key

DATA_SET = "ivslab"
TIMED_IMAGES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The gate's facts, the bootstrap's draws by precision, and digests of all that they depend on."""

    facts: Facts
    samples: Mapping[str, NDArray[np.float64]]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class _ScoredFile:
    detector: Detector
    results: list[CocoResult]
    measured: MapResult


def compare_versions(
    challenger: tuple[Version, VersionFiles],
    champion: tuple[Version, VersionFiles] | None,
    params: Params,
    *,
    withdrawn: str | None = None,
    approved_by: str | None = None,
) -> Comparison:
    """Score, time and compare.

    Args:
        challenger: the version that may become the champion, and its files.
        champion: the version that devices follow, if there is one.
        params: of these the sections promotion, evaluate and seed.
        withdrawn: who rolled the challenger back earlier, and when.
        approved_by: the person who agrees.

    Raises:
        UserError: the versions cannot be compared at all.
    """
    section = params.promotion
    prepared = PreparedSet(paths.PREPARED / DATA_SET, params.evaluate.split)
    document = prepared.coco
    contents = image_digests(prepared.root, document)
    test_set, document = _test_set(prepared, document, contents, challenger[1], champion and champion[1])
    versions = [challenger, champion] if champion else [challenger]
    digests = {
        (version.number, each): file_digest(files.model(each))
        for version, files in versions
        for each in dict.fromkeys((section.precision, *section.also))
        if files.model(each).is_file()
    }
    of_version = {version.number: files for version, files in versions}
    if lacking := [number for number in of_version if (number, section.precision) not in digests]:
        raise ModelError(
            f"version {lacking[0]}: expected model.{section.precision}.onnx (promotion.precision), found none"
        )
    scored: dict[str, _ScoredFile] = {}  # by digest: a file that both have is scored once
    for (number, each), digest in digests.items():
        if digest not in scored:
            scored[digest] = _score(of_version[number].model(each), prepared, document)
    images = (prepared.image(index) for index in range(min(TIMED_IMAGES, len(prepared))))
    latencies = dict(zip(scored, median_latencies([each.detector for each in scored.values()], images), strict=True))

    found: dict[str, Scored] = {}
    samples: dict[str, NDArray[np.float64]] = {}
    for precision in [each for number, each in digests if number == challenger[0].number]:
        keys = [digests[number, precision] for number in of_version if (number, precision) in digests]
        ours, *theirs = (
            Candidate(
                scored[key].measured.map50,
                dict(scored[key].measured.ap50),
                scored[key].detector.path.stat().st_size / 2**20,
                latencies[key],
            )
            for key in keys
        )
        found[precision] = Scored(ours)
        if theirs:
            challenging, defending = (MatchedFrames.of(document, scored[k].results, prepared.classes) for k in keys)
            draws = {"resamples": section.resamples, "seed": params.seed}
            difference = paired_bootstrap([defending], [challenging], confidence=section.confidence, **draws)
            samples[precision] = difference.samples
            found[precision] = Scored(ours, theirs[0], Bounds(difference.value, difference.lower, difference.upper))
    facts = Facts(
        challenger=str(challenger[0].number),
        champion=str(champion[0].number) if champion else None,
        scored=found,
        test_set=test_set,
        parity=challenger[1].parity,
        required=section.precision,
        missing=sorted({each for _, each in digests} - set(found)),
        same_weights=champion is not None and challenger[1].weights == champion[1].weights != "",
        withdrawn=withdrawn,
        approved_by=approved_by,
    )
    named = {f"version_{number}_{each}_sha256": digest for (number, each), digest in digests.items()}
    return Comparison(facts, samples, {"test_set_sha256": fingerprint([document, contents])} | named)


def _test_set(
    prepared: PreparedSet,
    document: dict[str, Any],
    contents: Mapping[int, str],
    challenger: VersionFiles,
    champion: VersionFiles | None,
) -> tuple[TestSet, dict[str, Any]]:
    """Which frames are scored: those about which something is known and that the champion never trained on."""
    images = evaluated_images(document)
    left_out = _training_frames(images, contents, champion)
    kept = {image["id"] for image in images if image["id"] not in left_out}
    name = f"{DATA_SET} {prepared.split}"
    if not kept:
        raise DataError(f"{prepared.root}: expected a frame of {name} that the champion never trained on, found none")
    test_set = TestSet(
        name,
        frames=len(images),
        scored=len(kept),
        leaked=sorted(set(_training_frames(images, contents, challenger).values())),
        left_out=sorted(set(left_out.values())),
    )
    return test_set, restricted(document, [image for image in images if image["id"] in kept])


def _training_frames(
    images: Sequence[Mapping[str, Any]], contents: Mapping[int, str], files: VersionFiles | None
) -> dict[int, str]:
    """Frames that a version was trained on: their video's name by image id."""
    if files is None:
        return {}
    used = files.training_ids
    return {
        image["id"]: video_key(DATA_SET, image)
        for image in images
        if video_key(DATA_SET, image) in used.videos or contents[image["id"]] in used.images
    }


def _score(path: Path, prepared: PreparedSet, document: dict[str, Any]) -> _ScoredFile:
    detector = Detector(path, provider="cpu")
    if detector.classes != prepared.classes:
        raise ModelError(
            f"{path}: expected the test set's classes {', '.join(prepared.classes)}, found "
            f"{', '.join(detector.classes)}; models with other classes belong under another name (register.name)"
        )
    known = {image["id"] for image in document["images"]}
    found = results_for(prepared, detector.run, detector.input_size, batch_size=1, progress=True)
    results = [result for result in found if result["image_id"] in known]
    return _ScoredFile(detector, results, evaluate_map50(document, results, prepared.classes))
