"""What waits stays within its budgets, whole, and without the least useful."""

import json
import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_centernet.field.spool import Budget, KeptFrame, Spool, SpoolError, waiting

FRAMES = st.lists(
    st.builds(
        KeptFrame,
        st.sampled_from(["2026-11-27", "2026-11-28"]),
        st.integers(0, 10**9).map(lambda number: sha256(str(number).encode()).hexdigest()),
        st.floats(0, 1),
        st.booleans(),
        st.integers(1, 100),
    ),
    max_size=30,
    unique_by=lambda frame: frame.digest,
)


@settings(max_examples=30, deadline=None)
@given(frames=FRAMES, a_day=st.integers(0, 6), control=st.integers(0, 6), disk=st.integers(0, 1500))
def test_what_is_left_fits_and_is_the_most_useful(frames: list[KeptFrame], a_day: int, control: int, disk: int) -> None:
    budget = Budget(max(a_day, control), control, disk)
    surplus = budget.surplus(frames)
    left = [frame for frame in frames if frame not in surplus]
    assert sum(frame.nbytes for frame in left) <= disk
    for pool in {(frame.day, frame.control) for frame in left}:
        own = [frame for frame in left if (frame.day, frame.control) == pool]
        assert len(own) <= (control if pool[1] else budget.frames_a_day - control)
        dropped = [frame for frame in surplus if (frame.day, frame.control) == pool]
        assert all(gone.usefulness <= kept.usefulness for gone in dropped for kept in own)
    assert budget.surplus(left) == set()


def spool(folder: Path, a_day: int = 3, disk: int = 10**6) -> Spool:
    return Spool(folder, Budget(a_day, 0, disk))


def add(to: Spool, number: int, worth: float, day: str = "2026-11-28") -> bool:
    return to.add(day, f"image {number}".encode(), {"number": number}, worth, control=False)


def numbers(folder: Path) -> set[int]:
    return {json.loads(path.read_text())["number"] for path in folder.rglob("*.json")}


def test_the_least_useful_of_a_day_goes_first(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    assert [add(filled, number, number / 10) for number in (5, 2, 4, 1, 3)] == [True, True, True, False, True]
    assert numbers(tmp_path) == {3, 4, 5}
    assert len(list(tmp_path.rglob("*.jpg"))) == 3
    assert filled.floor("2026-11-28", False) == 0.3 and filled.floor("2026-11-29", False) == 0
    assert add(filled, 1, 0.1, "2026-11-29")  # another day has frames of its own


def test_the_least_useful_of_all_days_goes_where_the_disk_is_what_is_short(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    add(filled, 1, 0.1, "2026-11-27")
    nbytes = next(iter(waiting(tmp_path))).nbytes
    filled.close()
    filled = spool(tmp_path, disk=int(nbytes * 2.5))
    assert add(filled, 2, 0.2) and add(filled, 3, 0.3) and not add(filled, 0, 0.05)
    assert numbers(tmp_path) == {2, 3}


def test_one_content_is_there_once(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    assert add(filled, 1, 0.5) and not add(filled, 1, 0.6)
    assert len(list(waiting(tmp_path))) == 1


def test_what_a_crash_left_half_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    for number in range(3):
        add(filled, number, 0.5)
    filled.close()
    day = tmp_path / "2026-11-28"
    first, second, _ = sorted(day.glob("*.json"))
    first.unlink()  # killed between image and record
    second.write_text("{")
    (day / ".x.jpg.4711.tmp").write_bytes(b"half")
    again = spool(tmp_path)
    again.close()
    assert len(list(day.iterdir())) == 2


def test_what_was_sent_meanwhile_makes_room(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    for number in range(3):
        add(filled, number, 0.5)
    for path in (tmp_path / "2026-11-28").iterdir():
        path.unlink()
    assert add(filled, 9, 0.1) and numbers(tmp_path) == {9}


def test_a_smaller_budget_holds_from_the_start(tmp_path: Path) -> None:
    filled = spool(tmp_path)
    for number in range(3):
        add(filled, number, number / 10)
    filled.close()
    spool(tmp_path, a_day=1)
    assert numbers(tmp_path) == {2}


def test_two_applications_of_one_name(tmp_path: Path) -> None:
    held = spool(tmp_path)
    with pytest.raises(SpoolError, match="is already running"):
        spool(tmp_path)
    held.close()
    spool(tmp_path)


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled, real, calls = spool(tmp_path), Path.replace, random.Random(0)
    assert add(filled, 1, 0.5)

    def refuses(path: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", refuses)
    with pytest.raises(OSError, match="No space"):
        add(filled, calls.randint(2, 9), 0.6)
    assert len(list((tmp_path / "2026-11-28").iterdir())) == 2 and numbers(tmp_path) == {1}
