"""fetch_bdd100k, fetch_ivslab, fetch_field: raw data, rendered, fetched, cut here, or taken stock of where it lies."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from mobile_centernet.data.download.archives import unpack
from mobile_centernet.data.download.download import download_all
from mobile_centernet.data.download.remote import Archive
from mobile_centernet.data.parallel import in_order
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk
from mobile_centernet.data.readers.raw import Layout, detect
from mobile_centernet.data.readers.video import FrameStep, cut_videos
from mobile_centernet.data.similarity.perceptual import hash_image
from mobile_centernet.errors import DataError
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.intake import Views, collect
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.footage import read_ivslab
from mobile_centernet.mlops.params import FetchBdd100k, FetchIvslab, FrameSteps, Params, Source
from mobile_centernet.mlops.sources import SOURCE_FILE, DatasetSource
from sample.bdd100k import write_bdd100k
from sample.field import write_field
from sample.ivslab import write_ivslab

FOOTAGE = "footage"
"""Folder of the raw data, below that of the stage's output."""

IMAGES_AND_VIDEOS = IMAGE_SUFFIXES + VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


def fetch_bdd100k(params: Params) -> None:
    """Fill data/raw/bdd100k."""
    section, out = params.fetch_bdd100k, paths.RAW / "bdd100k"

    def render(root: Path) -> None:
        sample = section.sample
        assert sample is not None  # noqa: S101 Params has seen to it
        write_bdd100k(
            root, seed=sample.seed, train_frames=sample.train_frames, val_frames=sample.val_frames, progress=True
        )

    if section.source == "urls":
        _unpack(section, out / FOOTAGE)
        source = DatasetSource("urls", FOOTAGE, _digests(section), format=section.format)
    else:
        source = _local(section, out, render)
    write_json(out / SOURCE_FILE, source.to_dict())


def fetch_ivslab(params: Params) -> None:
    """Fill data/raw/ivslab."""
    section, out = params.fetch_ivslab, paths.RAW / "ivslab"

    def render(root: Path) -> None:
        sample = section.sample
        assert sample is not None  # noqa: S101 Params has seen to it
        write_ivslab(
            root,
            seed=sample.seed,
            videos=sample.videos,
            frames_per_video=sample.frames_per_video,
            test_frames=sample.test_frames,
            progress=True,
        )

    if section.source == "videos":
        stock = _take_stock(section, VIDEO_SUFFIXES)
        source = _cut("videos", section.path, out, section.frame_step, stock)
    elif section.source == "urls":
        unpacked = out / FOOTAGE
        _unpack(section, unpacked)
        listing = walk(unpacked)
        if not listing.images and listing.videos:
            videos = unpacked.rename(out / "videos")
            source = _cut("urls", videos, out, section.frame_step, _digests(section))
            shutil.rmtree(videos)
        else:
            if section.format == "auto" and not listing.labels and detect(listing) is not Layout.IVSLAB:
                names = ", ".join(path.rpartition("/")[2] for path in listing.images[:5]) or "no image"
                raise DataError(
                    f"{unpacked}: expected ivslab_train, ivslab_test or JPEGImages in the archives (or videos), "
                    f"found {names}"
                )
            source = DatasetSource("urls", FOOTAGE, _digests(section), format=section.format)
    else:
        source = _local(section, out, render)
    write_json(out / SOURCE_FILE, source.to_dict())


def fetch_field(params: Params) -> None:
    """Fill data/raw/field: a COCO set of the frames that devices sent, a video per device, camera and day.

    Reviewed frames come first, from the folders of `mobile-centernet label`, with their boxes; all others are
    unlabelled. Near-copies of ivslab's frames and of each other are left out.
    """
    section, out = params.fetch_field, paths.RAW / paths.FIELD
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if section.source == "none":
        logger.info("fetch_field.source is none: %s is an empty set", out)
        write_json(out / SOURCE_FILE, DatasetSource("none", FOOTAGE, {}).to_dict())
        return
    inbox = section.url or str(section.path)
    if section.source == "sample":
        sample, sent = section.sample, paths.WORK / "field_sample"
        assert sample is not None  # noqa: S101 Params has seen to it
        shutil.rmtree(sent, ignore_errors=True)
        write_field(sent, seed=sample.seed, frames=sample.frames, progress=True)
        inbox = str(sent)
    _, known = read_ivslab(params.prepare_ivslab, labels=False)
    hashes = tqdm(in_order(hash_image, known), "compare", len(known), disable=None)
    views = Views(own for own in hashes if own is not None)
    keep = paths.DOWNLOADS / paths.FIELD if section.source == "url" else None
    collected = collect(inbox, section.reviewed, views, out / FOOTAGE, keep)
    if section.source == "sample":
        shutil.rmtree(inbox)
    files, findings = dict(sorted(collected.files.items())), tuple(collected.findings)
    write_json(out / "fetched.json", dict(sorted(collected.fates.items())))
    write_json(out / SOURCE_FILE, DatasetSource(section.source, FOOTAGE, files, findings, format="coco").to_dict())
    said = ", ".join(f"{count} {fate}" for fate, count in sorted(collected.fates.items())) or "none yet"
    logger.info("frames from the field: %s", said)
    for each in findings:
        logger.warning("%s: %s: expected %s, found %s", each.action, each.item, each.expected, each.found)


def _local(section: FetchBdd100k | FetchIvslab, out: Path, render: Callable[[Path], None]) -> DatasetSource:
    out.mkdir(parents=True, exist_ok=True)
    if section.source == "sample":
        render(out / FOOTAGE)
        return DatasetSource("sample", FOOTAGE, {})
    stock = _take_stock(section)
    kinds = [path.lower().endswith(IMAGE_SUFFIXES) for path in stock if path.lower().endswith(IMAGES_AND_VIDEOS)]
    if kinds and not any(kinds):
        raise DataError(f"{section.path}: expected images, found videos (fetch_ivslab reads them as source: videos)")
    return DatasetSource("folder", str(section.path.resolve()), stock, format=section.format)


def _take_stock(section: Source, suffixes: tuple[str, ...] = ("",)) -> dict[str, str]:
    """Digest of every file below `path` that may be read, behind links too: what the later stages depend on.

    DVC watches `path` and `linked` but looks behind no link to a folder, so such links must lead into one of these.
    """
    root, watched = section.path, [section.path.resolve(), section.linked.resolve()]
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of footage (params.yaml, path), found none")
    listing = walk(root)
    for place, target in listing.links.items():
        if not any(target.is_relative_to(folder) for folder in watched):
            raise DataError(
                f"{root / place}: expected a link into `path` or `linked` (params.yaml), which DVC watches, "
                f"found one to {target}"
            )
    files = sorted(
        path for path in (*listing.images, *listing.videos, *listing.labels) if path.lower().endswith(suffixes)
    )
    if not files:
        others = ", ".join(f"{count} files {kind}" for kind, count in listing.others.items()) or "an empty folder"
        raise DataError(
            f"{root}: expected footage, found {others if suffixes == ('',) else 'none of ' + ', '.join(suffixes)}"
        )
    if suffixes == VIDEO_SUFFIXES:  # of which no later stage can count what lies beside
        left = Counter(f".{path.rpartition('.')[2].lower()}" for path in (*listing.images, *listing.labels))
        for kind, count in (left + Counter(listing.others)).items():
            logger.warning("%s: files that are not read: %d %s", root, count, kind)
    return {path: file_digest(root / path) for path in tqdm(files, "take stock", unit="file", disable=None)}


def _unpack(section: Source, into: Path) -> None:
    """Fetch what is missing, then unpack all archives into the folder `into`, in place of what is there."""
    shutil.rmtree(into, ignore_errors=True)
    into.parent.mkdir(parents=True, exist_ok=True)
    downloads = download_all([Archive(**entry.model_dump()) for entry in section.archives], paths.DOWNLOADS)
    unpack(downloads, into, names=[entry.url for entry in section.archives])
    if not section.keep_archives:
        for download in set(downloads):
            download.unlink()


def _digests(section: Source) -> dict[str, str]:
    return {entry.url: entry.sha256 for entry in section.archives}


def _cut(source: str, videos: Path, out: Path, steps: FrameSteps, files: dict[str, str]) -> DatasetSource:
    shutil.rmtree(out / FOOTAGE, ignore_errors=True)
    step = FrameStep(frames=steps.frames or 1, seconds=steps.seconds or 0.0)
    frames, findings = cut_videos(videos, out / FOOTAGE / "ivslab_train", step)
    logger.info("cut %d frames out of %d %s", frames, len(files), "archives" if source == "urls" else "videos")
    for each in findings:
        logger.warning("%s: %s: expected %s, found %s", each.action, each.item, each.expected, each.found)
    return DatasetSource(source, FOOTAGE, files, tuple(findings))
