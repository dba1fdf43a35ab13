"""A folder on a device: there whole and verified, or not there."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mobile_centernet.edge.bundle import verify_bundle
from mobile_centernet.edge.errors import BundleError
from mobile_centernet.edge.keys import TrustedKeys
from mobile_centernet.edge.release import extract, verify_folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_extracting_gives_what_tar_gives(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    manifest = extract(signed, tmp_path / "ours", trusted)
    (tmp_path / "theirs").mkdir()
    subprocess.run(["tar", "xf", signed, "-C", tmp_path / "theirs"], check=True)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert verify_folder(tmp_path / "ours", trusted) == manifest == verify_bundle(signed, trusted)
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "theirs", signed.name}


def test_a_bad_bundle_leaves_nothing(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    content = signed.read_bytes()
    rng = random.Random(3)
    for position in (*rng.choices(range(len(content)), k=20), len(content) - 1):
        signed.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(BundleError):
            extract(signed, tmp_path / "release", trusted)
        assert [path.name for path in tmp_path.iterdir()] == [signed.name]


def test_nothing_is_overwritten(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    (tmp_path / "release").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="release: expected a folder that is not there yet"):
        extract(signed, tmp_path / "release", trusted)
    with pytest.raises(BundleError, match="cannot be unpacked there"):
        extract(signed, tmp_path / "missing" / "release", trusted)


def test_what_a_crash_left_is_removed_first(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    (tmp_path / ".release.partial" / "golden").mkdir(parents=True)
    (tmp_path / ".release.partial" / "golden" / "evil.png").write_text("left behind")
    extract(signed, tmp_path / "release", trusted)
    verify_folder(tmp_path / "release", trusted)
    assert not (tmp_path / ".release.partial").exists()


KILLED = """
import os, sys
from pathlib import Path
from mobile_centernet.edge.keys import TrustedKeys
from mobile_centernet.edge.release import extract

calls = 0
def fsync(descriptor, sync=os.fsync):
    global calls
    calls += 1
    if calls == int(sys.argv[4]):
        os._exit(9)
    sync(descriptor)

os.fsync = fsync
extract(Path(sys.argv[1]), Path(sys.argv[2]), TrustedKeys.load([Path(sys.argv[3])]))
"""


def test_killed_at_any_file_there_is_the_whole_folder_or_none(
    signed: Path, trusted: TrustedKeys, material: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    outcomes = []
    for moment in (1, 17, 18, 99):
        command = [sys.executable, "-c", KILLED, signed, release, material / "first.pub", str(moment)]
        done = subprocess.run(command, check=False, timeout=60)
        outcomes.append((done.returncode, release.exists()))
        if release.exists():
            verify_folder(release, trusted)
            for path in sorted(release.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            release.rmdir()
    # Five signature files and manifest, nine others, three folders, and the parent after the rename.
    assert outcomes == [(9, False), (9, False), (9, True), (0, True)]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    signed: Path, trusted: TrustedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"cannot be unpacked there \(No space left on device\)"):
        extract(signed, tmp_path / "release", trusted)
    assert [path.name for path in tmp_path.iterdir()] == [signed.name]


def test_a_changed_folder_is_refused(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    release = tmp_path / "release"
    extract(signed, release, trusted)
    rng = random.Random(5)
    for name, content in files(release).items():
        position = rng.randrange(len(content))
        (release / name).write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(BundleError):
            verify_folder(release, trusted)
        (release / name).unlink()
        with pytest.raises(BundleError):
            verify_folder(release, trusted)
        (release / name).write_bytes(content)
    verify_folder(release, trusted)


def test_more_than_the_manifest_names_is_refused(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    release = tmp_path / "release"
    extract(signed, release, trusted)
    (release / "golden" / "more.png").touch()
    with pytest.raises(BundleError, match=r"expected no files but those of its manifest, found golden/more\.png"):
        verify_folder(release, trusted)
    (release / "golden" / "more.png").unlink()
    model = release / "model.fp32.onnx"
    model.rename(tmp_path / "elsewhere.onnx")
    model.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx: expected a plain file, found a link"):
        verify_folder(release, trusted)


def test_a_key_revoked_later_and_a_folder_that_is_none(signed: Path, trusted: TrustedKeys, tmp_path: Path) -> None:
    extract(signed, tmp_path / "release", trusted)
    later = TrustedKeys(trusted.keys, frozenset(trusted.keys))
    with pytest.raises(BundleError, match="found only revoked"):
        verify_folder(tmp_path / "release", later)
    with pytest.raises(BundleError, match=r"expected a whole release, but .*missing/manifest\.json: No such file"):
        verify_folder(tmp_path / "missing", trusted)
