"""fetch_bdd100k, fetch_ivslab: raw footage, rendered here or taken stock of where it lies."""

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from mobile_centernet.data.synthetic.bdd100k import write_bdd100k
from mobile_centernet.data.synthetic.ivslab import write_ivslab
from mobile_centernet.errors import DataError
from mobile_centernet.files import write_json
from steps import workspace
from steps.digests import file_digest
from steps.footage import SOURCE_FILE, Footage
from steps.params import Params, Source


def fetch_bdd100k(params: Params) -> None:
    """Fill data/raw/bdd100k."""
    section = params.fetch_bdd100k

    def render(root: Path) -> None:
        sample = section.sample
        write_bdd100k(
            root, seed=params.seed, train_frames=sample.train_frames, val_frames=sample.val_frames, progress=True
        )

    _fetch(section, workspace.RAW / "bdd100k", render)


def fetch_ivslab(params: Params) -> None:
    """Fill data/raw/ivslab."""
    section = params.fetch_ivslab

    def render(root: Path) -> None:
        sample = section.sample
        write_ivslab(
            root,
            seed=params.seed,
            videos=sample.videos,
            frames_per_video=sample.frames_per_video,
            test_frames=sample.test_frames,
            progress=True,
        )

    _fetch(section, workspace.RAW / "ivslab", render)


def _fetch(section: Source, out: Path, render: Callable[[Path], None]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if section.source == "sample":
        render(out / "footage")
        footage = Footage("sample", "footage", {})
    else:
        footage = Footage("folder", str(section.path.resolve()), _take_stock(section.path))
    write_json(out / SOURCE_FILE, footage.document())


def _take_stock(root: Path) -> dict[str, str]:
    """Every file below `root` with its digest: what the later stages depend on, without a second copy of it."""
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of footage (params.yaml, path), found none")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        raise DataError(f"{root}: expected footage, found an empty folder")
    return {path.relative_to(root).as_posix(): file_digest(path) for path in tqdm(files, "take stock", unit="file")}
