"""A repository in a bucket, which refuses whoever comes second, and in a folder into which others may write."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.store import FolderStore, ObjectStore, open_store
from tests.helpers.trust import Client, Fleet


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="fleet")
    yield "s3://fleet/repository"
    server.stop()


def test_a_repository_in_a_bucket_serves_devices_and_refuses_the_slower_publisher(bucket: str, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet", open_store(bucket))  # type: ignore[arg-type]
    first = fleet.publish(b"first", "1")
    assert Client(fleet).statement() == first

    class Slow(ObjectStore):
        """Lets somebody else publish between its check and its write of timestamp.json."""

        def read(self, name: str) -> bytes | None:
            found = super().read(name)
            if name.endswith("timestamp.json") and armed and armed.pop():
                fleet.register(b"fast", "2")
            return found

    armed: list[bool] = []
    slow = fleet.repository()
    slow.store = Slow(bucket)
    state = slow.state()
    armed.append(True)
    with pytest.raises(TrustError, match=r"the store refuses|somebody else has published meanwhile"):
        slow.commit(state, {}, {}, snapshot=False)
    fleet.register(b"third", "3")
    assert Client(fleet).statement() == Client(fleet, "new").statement() == first


def test_files_are_written_once_and_replaced_only_as_they_were_seen(bucket: str) -> None:
    store = ObjectStore(f"{bucket}-other")
    assert store.read("a") is None and store.names("metadata") == []
    store.create("metadata/a", b"one")
    store.create("metadata/a", b"one")
    with pytest.raises(TrustError, match="expected no such file yet, found another"):
        store.create("metadata/a", b"two")
    with pytest.raises(TrustError, match="somebody else has published meanwhile"):
        store.replace("metadata/a", b"two", b"other")
    store.replace("metadata/a", b"two", b"one")
    assert (store.read("metadata/a"), store.names("metadata")) == (b"two", ["a"])


def pipe(folder: Path, _: Path) -> None:
    (folder / "metadata/timestamp.json").unlink()
    os.mkfifo(folder / "metadata/timestamp.json")


def endless(folder: Path, _: Path) -> None:
    (folder / "metadata/timestamp.json").unlink()
    (folder / "metadata/timestamp.json").symlink_to("/dev/zero")


def led_out(folder: Path, home: Path) -> None:
    (folder / "metadata").rename(folder / "before")
    (folder / "metadata").symlink_to(home)


def secret(folder: Path, home: Path) -> None:
    (folder / "metadata/timestamp.json").unlink()
    (folder / "metadata/timestamp.json").symlink_to(home / "precious.key")


@pytest.mark.parametrize("trap", [pipe, endless, led_out, secret], ids=lambda trap: trap.__name__)
def test_whoever_may_write_the_folder_neither_holds_nor_leads_its_publishers(
    tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    (home := tmp_path / "home").mkdir()
    (home / "precious.key").write_text("hush")
    store = FolderStore(tmp_path / "served")
    store.replace("metadata/timestamp.json", b"{}", None)
    trap(tmp_path / "served", home)
    for work in (
        lambda: store.read("metadata/timestamp.json"),
        lambda: store.replace("metadata/timestamp.json", b"{}", None),
        lambda: store.replace("metadata/timestamp.json", b"{}", b"hush"),
    ):
        with pytest.raises(TrustError, match=r"timestamp\.json: expected a p") as refused:
            work()
        assert "hush" not in str(refused.value)
    assert [(path.name, path.read_text()) for path in home.iterdir()] == [("precious.key", "hush")]


def test_a_link_in_the_place_of_a_temporary_file_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "served/metadata").mkdir(parents=True)
    (tmp_path / f"served/metadata/.timestamp.json.{os.getpid()}.tmp").symlink_to(tmp_path / "precious")
    FolderStore(tmp_path / "served").replace("metadata/timestamp.json", b"{}", None)
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "served/metadata/timestamp.json").read_bytes() == b"{}"
