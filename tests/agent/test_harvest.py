"""A harvester beside a detector: what it keeps, and that nothing which befalls it reaches the detector."""

import logging
import random
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_centernet.agent import harvest
from mobile_centernet.agent.errors import ConfigError
from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.field.spool import SpoolError
from tests.helpers.harvests import DAY, LIVE, NOON, found, frame, records, settings

DOUBTFUL = found(("vehicle", 0.3, 40, 40, 80, 72), ("pedestrian", 0.9, 100, 20, 120, 70))
SURE = found(("vehicle", 0.9, 40, 40, 80, 72))


def days_of(kept: list[dict[str, Any]]) -> list[str]:
    return sorted({record["at"][:10] for record in kept})


def offer(harvester: Harvester, seed: int, at: float = NOON, doubtful: bool = True) -> bool:
    """Whether it is taken; the frame is on the disk, or refused, afterwards."""
    taken = bool(harvester.offer(frame(seed), DOUBTFUL if doubtful else SURE, at=at))
    harvester.flush()
    return taken


def test_a_kept_frame_has_its_record_beside_it(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path, harvest={"novel_bits": 256}), LIVE, "front") as harvester:
        assert offer(harvester, 1) and not offer(harvester, 2, NOON + 1, doubtful=False)
    (record,) = records(tmp_path)
    assert record["detections"] == [
        {"class": "pedestrian", "score": 0.9, "box": [100, 20, 120, 70]},
        {"class": "vehicle", "score": 0.3, "box": [40, 40, 80, 72]},
    ]
    expected = {
        "reason": "uncertain", "release": "d" * 64, "version": "7", "device": "kiosk-07", "camera": "front",
        "at": datetime.fromtimestamp(NOON, UTC).isoformat(timespec="milliseconds"), "width": 160, "height": 96,
        "control": False, "blurred": [],
    }  # fmt: skip
    assert expected.items() <= record.items()
    (image,) = tmp_path.rglob("*.jpg")
    assert image.stem == record["sha256"] and image.parent.name == record["at"][:10]
    Image.fromarray(frame(1)).save(tmp_path / "same.jpg", quality=90)
    assert image.read_bytes() == (tmp_path / "same.jpg").read_bytes()


def test_frames_a_day(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path, harvest={"frames_a_day": 3}), LIVE) as harvester:
        for seed in range(12):
            offer(harvester, seed, NOON + seed)
        for seed in range(12, 24):
            offer(harvester, seed, NOON + DAY + seed)
    days = [record["at"][:10] for record in records(tmp_path)]
    assert len(days) == 6 and len(set(days)) == 2


def test_one_view_is_kept_once_and_so_is_a_flood_of_new_ones(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path, harvest={"least_s": 10}), LIVE) as harvester:
        assert [offer(harvester, 1, NOON + 20 * turn) for turn in range(4)] == [True, False, False, False]
        assert [offer(harvester, seed, NOON + 100 + seed) for seed in range(2, 7)] == [True, *[False] * 4]


def test_the_control_sample_is_uniform_over_the_day(tmp_path: Path) -> None:
    """Of a day's frames those stay that drew the highest numbers, whatever is on them: every frame is as likely."""
    draws = random.Random(5)
    highest = [set(np.argsort([draws.random() for _ in range(20)])[-3:].tolist()) for _ in range(2)]
    with Harvester(settings(tmp_path, harvest={"control": 3, "frames_a_day": 9, "novel_bits": 256}), LIVE) as harvester:
        harvester._chance = random.Random(5)
        for day in range(2):
            for seed in range(20):
                offer(harvester, seed, NOON + DAY * day + seed, doubtful=seed % 2 == 0)
    kept = [record for record in records(tmp_path) if record["control"]]
    seconds = [[int(record["at"][17:19]) for record in kept if record["at"][:10] == day] for day in days_of(kept)]
    assert [set(each) for each in seconds] == highest
    assert all(record["reason"] == "control" for record in kept)


def test_a_clock_that_is_set_back_harms_nothing(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path, harvest={"frames_a_day": 2, "least_s": 1}), LIVE) as harvester:
        for seed, at in enumerate([NOON, NOON - DAY, 0.0, NOON + 2, NOON - DAY + 2, NOON + 4, -5.0, 4e9]):
            offer(harvester, seed, at)
        assert harvester.problem is None
    days = [record["at"][:10] for record in records(tmp_path)]
    assert max(days.count(day) for day in days) == 2 and "1970-01-01" in days


def test_frames_of_two_sizes(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path), LIVE) as harvester:
        for turn, size in enumerate([(96, 160), (48, 80), (96, 160), (1, 1)]):
            assert harvester.offer(
                frame(turn, *size) if size[0] > 8 else np.zeros((1, 1, 3), np.uint8), DOUBTFUL, at=NOON + turn
            )
            harvester.flush()
        assert harvester.problem is None
    assert {(record["height"], record["width"]) for record in records(tmp_path)} == {(96, 160), (48, 80), (1, 1)}


def test_chosen_classes_are_blurred_before_anything_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 160, 3), np.uint8)
    person = ("pedestrian", 0.06, 100.4, 20.2, 130.5, 70.1)  # of any score that is recorded
    with Harvester(settings(tmp_path, harvest={"blur": ["pedestrian"], "quality": 95}), LIVE) as harvester:
        assert harvester.offer(image, found(person, ("vehicle", 0.3, 20, 40, 60, 72)), at=NOON)
    (path,) = tmp_path.rglob("*.jpg")
    kept = np.asarray(Image.open(path), np.int64)
    detail = np.abs(np.diff(kept, axis=1)).mean(axis=2)
    assert detail[20:70, 100:129].mean() < 6 < 30 < detail[40:72, 20:59].mean()
    # Nothing of the person is left but a few means: the same box of other noise, of the same means, looks the same.
    assert len({tuple(pixel) for pixel in (kept[17:73:9, 99:132:9] // 24).reshape(-1, 3)}) <= 30
    assert records(tmp_path)[0]["blurred"] == ["pedestrian"]


def test_a_misspelt_class_to_blur_keeps_no_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Harvester(settings(tmp_path, harvest={"blur": ["pedestrain"]}), LIVE) as harvester:
        assert not offer(harvester, 1) and not offer(harvester, 2, NOON + 9)
        assert (
            harvester.problem
            == "harvest.blur: expected classes of the release (vehicle, pedestrian, bicycle), found pedestrain"
        )
    assert not list(tmp_path.rglob("*.jpg")) and len(caplog.records) == 1


def test_a_full_disk_is_told_once_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Path.open

    def refuses(path: Path, mode: str = "r", *args: object, **more: object) -> object:
        if {"w", "x"} & set(mode):
            raise OSError(28, "No space left on device")
        return real(path, mode, *args, **more)  # type: ignore[call-overload]

    caplog.set_level(logging.INFO)
    with Harvester(settings(tmp_path), LIVE) as harvester:
        with monkeypatch.context() as full:
            full.setattr(Path, "open", refuses)
            assert offer(harvester, 1) and "No space left on device" in (harvester.problem or "")
            assert not offer(harvester, 2, NOON + 1)  # for a while nothing is tried
            full.setattr(harvest, "_PAUSE_S", 0.0)
            harvester._rests_until = 0.0
            assert offer(harvester, 3, NOON + 2)
        assert offer(harvester, 4, NOON + 3) and harvester.problem is None
    assert len(records(tmp_path)) == 1 and len(list(tmp_path.rglob("*.jpg"))) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_it_leaves_the_room_that_the_agent_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harvest.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(63e6)))
    with Harvester(settings(tmp_path, store={"keep_free_mb": 64}), LIVE) as harvester:
        offer(harvester, 1)
        assert "expected 64 MB free (store.keep_free_mb), found 63.0" in (harvester.problem or "")
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_folder_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "device").write_text("no folder")
    with Harvester(settings(tmp_path), LIVE) as harvester:
        assert "cannot be used" in (harvester.problem or "")
        (tmp_path / "device").unlink()
        assert offer(harvester, 1) and harvester.problem is None
    assert len(records(tmp_path)) == 1


def test_a_slow_disk_makes_nobody_wait(tmp_path: Path) -> None:
    with Harvester(settings(tmp_path), LIVE) as harvester:
        assert harvester._spool is not None
        hangs, real = threading.Event(), harvester._spool.add

        def add(*args: object, **more: object) -> bool:
            hangs.wait()
            return real(*args, **more)  # type: ignore[arg-type]

        harvester._spool.add = add  # type: ignore[method-assign]
        assert harvester.offer(frame(1), DOUBTFUL, at=NOON)
        assert [dict(harvester.offer(frame(seed), DOUBTFUL, at=NOON + seed)) for seed in range(2, 6)] == [{}] * 4
        assert harvester.missed == 4
        hangs.set()
    assert len(records(tmp_path)) == 1


def test_two_harvesters_of_one_name(tmp_path: Path) -> None:
    config = settings(tmp_path)
    with Harvester(config, LIVE), pytest.raises(SpoolError, match="is already running"):
        Harvester(config, LIVE)
    with Harvester(config, LIVE), Harvester(config, LIVE, "rear"):
        pass


@pytest.mark.parametrize("name", ["", "../x", "a/b", "é"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 64 letters"):
        Harvester(settings(tmp_path), LIVE, name)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"harvest": {"frames_per_day": 3}}, "harvest: expected frames_a_day, control, .* found frames_per_day"),
        ({"harvest": {"frames_a_day": -1}}, "harvest.frames_a_day: expected a number from 0, found -1"),
        ({"harvest": {"frames_a_day": 2.5}}, "harvest.frames_a_day: expected int, found float 2.5"),
        ({"harvest": {"margin": 2}}, "harvest.margin: expected a number from 0 to 1, found 2"),
        ({"harvest": {"quality": 100}}, "harvest.quality: expected a number from 1 to 95, found 100"),
        ({"harvest": {"control": 60}}, "harvest.control: expected at most frames_a_day, which is 50, found 60"),
        ({"harvest": {"blur": "pedestrian"}}, "harvest.blur: expected list, found str 'pedestrian'"),
        ({"upload": {"url": "ftp://x"}}, "upload.url: expected http:// or https://.* found another"),
        ({"upload": {"presign": "https://x?token=secret"}}, "upload.presign: expected http.* found another"),
        ({"upload": {"mb_a_day": -1}}, "upload.mb_a_day: expected a number from 0, found -1"),
    ],
)
def test_misspelt_settings_are_one_sentence(
    tmp_path: Path, changes: dict[str, dict[str, object]], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        settings(tmp_path, **changes)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
