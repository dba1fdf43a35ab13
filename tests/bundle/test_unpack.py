"""A folder on a device: there whole and verified, or not there."""

import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mobile_centernet.bundle.bundle import extract, verify_bundle, verify_folder
from mobile_centernet.bundle.errors import BundleError


@pytest.fixture
def release(bundle_once: Path, tmp_path: Path) -> Path:
    """Where the bundle is unpacked to, as on a device, which knows the digest before it has the file."""
    return tmp_path / verify_bundle(bundle_once).sha256


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_extracting_gives_what_tar_gives(bundle: Path, release: Path, tmp_path: Path) -> None:
    manifest = extract(bundle, release, release.name)
    (tmp_path / "theirs").mkdir()
    subprocess.run(["tar", "xf", bundle, "-C", tmp_path / "theirs"], check=True)
    assert files(release) == files(tmp_path / "theirs")
    assert verify_folder(release) == manifest == verify_bundle(bundle)
    assert {path.name for path in tmp_path.iterdir()} == {release.name, "theirs", bundle.name}


def test_a_bad_bundle_leaves_nothing(bundle: Path, release: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    rng = random.Random(3)
    for position in (*rng.choices(range(len(content)), k=20), len(content) - 1):
        bundle.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(BundleError):
            extract(bundle, release, release.name)
        assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_nothing_is_overwritten(bundle: Path, release: Path, tmp_path: Path) -> None:
    release.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="expected a folder that is not there yet"):
        extract(bundle, release, release.name)
    with pytest.raises(BundleError, match="cannot be unpacked there"):
        extract(bundle, tmp_path / "missing" / release.name, release.name)


def test_what_a_crash_left_is_removed_first(bundle: Path, release: Path, tmp_path: Path) -> None:
    (tmp_path / f".{release.name}.partial" / "golden").mkdir(parents=True)
    (tmp_path / f".{release.name}.partial" / "golden" / "evil.png").write_text("left behind")
    extract(bundle, release, release.name)
    verify_folder(release)
    assert not (tmp_path / f".{release.name}.partial").exists()


def extract_and_die(bundle: Path, release: Path, moment: int) -> bool:
    """Unpack in a process that ends without a word before its `moment`-th change to the folder; whether it ended so."""
    child = os.fork()
    if child == 0:
        left = moment

        def die_in_time(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES and any(str(release.parent) in str(argument) for argument in arguments):
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(die_in_time)
        extract(bundle, release, release.name)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


CHANGES = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "shutil.copytree",
    "shutil.copyfile",
    "shutil.move",
}


def test_killed_at_any_change_there_is_the_whole_folder_or_none(bundle: Path, release: Path, tmp_path: Path) -> None:
    """What a kill leaves lies there for the next try, as on a device."""
    place = tmp_path / "place"
    place.mkdir()
    release, moment, appeared = place / release.name, 1, 0
    while extract_and_die(bundle, release, moment):
        moment += 1
        if release.exists():
            appeared += 1
            verify_folder(release)
            shutil.rmtree(release)
    verify_folder(release)
    assert moment > 25 and appeared >= 1, "it died before, between and after the files, and behind the rename"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    bundle: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"cannot be unpacked there \(No space left on device\)"):
        extract(bundle, release, release.name)
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_a_changed_folder_is_refused(bundle: Path, release: Path, tmp_path: Path) -> None:
    extract(bundle, release, release.name)
    rng = random.Random(5)
    for name, content in files(release).items():
        position = rng.randrange(len(content))
        (release / name).write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(BundleError):
            verify_folder(release)
        (release / name).unlink()
        with pytest.raises(BundleError):
            verify_folder(release)
        (release / name).write_bytes(content)
    verify_folder(release)


def test_more_than_the_manifest_names_is_refused(bundle: Path, release: Path, tmp_path: Path) -> None:
    extract(bundle, release, release.name)
    (release / "golden" / "more.png").touch()
    with pytest.raises(BundleError, match=r"expected no files but those of its manifest, found golden/more\.png"):
        verify_folder(release)
    (release / "golden" / "more.png").unlink()
    model = release / "model.fp32.onnx"
    model.rename(tmp_path / "elsewhere.onnx")
    model.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx: expected a plain file, found a link"):
        verify_folder(release)


def test_a_bundle_of_another_digest_and_a_folder_that_is_none(bundle: Path, release: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"expected the manifest {'0' * 64}, found {release.name}"):
        extract(bundle, tmp_path / "other", "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]
    extract(bundle, release, release.name)
    release.rename(tmp_path / "moved")
    with pytest.raises(BundleError, match=f"expected the manifest of that digest, found {release.name}"):
        verify_folder(tmp_path / "moved")
    with pytest.raises(BundleError, match=r"expected a whole release, but .*missing/manifest\.json: No such file"):
        verify_folder(tmp_path / "missing")
