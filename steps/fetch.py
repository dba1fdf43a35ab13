"""fetch_bdd100k, fetch_ivslab: raw data, rendered, fetched or cut here, or taken stock of where it lies."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from mobile_centernet.data.download.archives import unpack
from mobile_centernet.data.download.download import download_all
from mobile_centernet.data.download.remote import Archive
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_files
from mobile_centernet.data.readers.video import FrameStep, cut_videos
from mobile_centernet.errors import DataError
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import FetchBdd100k, FetchIvslab, FrameSteps, Params, Source
from mobile_centernet.mlops.sources import SOURCE_FILE, DatasetSource
from sample.bdd100k import write_bdd100k
from sample.ivslab import write_ivslab

FOOTAGE = "footage"
"""Folder of the raw data, below that of the stage's output."""

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
        source = DatasetSource("urls", FOOTAGE, _digests(section))
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
        source = _cut("videos", section.path, out, section.frame_step, _take_stock(section.path, VIDEO_SUFFIXES))
    elif section.source == "urls":
        # ivslab's folders, or videos to cut; either may be below a folder of the archive's own name.
        root = unpacked = out / FOOTAGE
        _unpack(section, unpacked)
        if not any(find_files(unpacked, IMAGE_SUFFIXES)) and any(find_files(unpacked, VIDEO_SUFFIXES)):
            videos = unpacked.rename(out / "videos")
            source = _cut("urls", videos, out, section.frame_step, _digests(section))
            shutil.rmtree(videos)
        else:
            while not any((root / name).is_dir() for name in ("JPEGImages", "ivslab_train", "ivslab_test")):
                inner = list(root.iterdir())
                if len(inner) != 1 or not inner[0].is_dir():
                    raise DataError(
                        f"{unpacked}: expected ivslab_train, ivslab_test or JPEGImages in the archives (or videos), "
                        "found " + ", ".join(sorted(path.name for path in inner)[:5])
                    )
                root = inner[0]
            source = DatasetSource("urls", root.relative_to(out).as_posix(), _digests(section))
    else:
        source = _local(section, out, render)
    write_json(out / SOURCE_FILE, source.to_dict())


def _local(section: FetchBdd100k | FetchIvslab, out: Path, render: Callable[[Path], None]) -> DatasetSource:
    out.mkdir(parents=True, exist_ok=True)
    if section.source == "sample":
        render(out / FOOTAGE)
        return DatasetSource("sample", FOOTAGE, {})
    if (
        section.path.is_dir()
        and not any(find_files(section.path, IMAGE_SUFFIXES))
        and any(find_files(section.path, VIDEO_SUFFIXES))
    ):
        raise DataError(f"{section.path}: expected pictures, found videos (fetch_ivslab reads them as source: videos)")
    return DatasetSource("folder", str(section.path.resolve()), _take_stock(section.path))


def _take_stock(root: Path, suffixes: tuple[str, ...] = ("",)) -> dict[str, str]:
    """Digest of every file below `root`: what the later stages depend on, without a second copy of it."""
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of footage (params.yaml, path), found none")
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name.lower().endswith(suffixes))
    if not files:
        found = "an empty folder" if suffixes == ("",) else f"none of {', '.join(suffixes)}"
        raise DataError(f"{root}: expected footage, found {found}")
    return {
        path.relative_to(root).as_posix(): file_digest(path)
        for path in tqdm(files, "take stock", unit="file", disable=None)
    }


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
