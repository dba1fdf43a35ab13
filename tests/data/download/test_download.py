"""Downloads against a real server: what goes on, what begins anew, and what is refused in one sentence."""

import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from filelock import FileLock

from mobile_centernet.data.download.download import RetryPolicy, download, download_all, remote_version
from mobile_centernet.data.download.remote import Archive, check_address
from mobile_centernet.errors import DataError, UserError
from tests.helpers.file_server import FileServer, Request, cut, file_server, hang, redirect, status
from tests.helpers.tls import https_server

CONTENT = np.random.default_rng(4).bytes(3_000_000)
OTHER = np.random.default_rng(5).bytes(3_000_000)
QUICK = RetryPolicy(retries=3, backoff=0.01, longest_wait=2, connect=20, silence=20)
IMPATIENT = replace(QUICK, retries=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def archive(server: FileServer) -> Archive:
    return Archive(server.add("/set.zip", CONTENT), sha256(CONTENT))


def partial(archive: Archive, folder: Path) -> Path:
    return folder / f"{archive.sha256[:16]}.partial"


def names(folder: Path) -> list[str]:
    """What lies there, but locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def ranges(server: FileServer) -> list[str | None]:
    return [asked for _, asked, _ in server.log]


def test_a_whole_file_is_fetched_once_and_verified_when_it_is_there(
    archive: Archive,
    server: FileServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level("INFO"):
        place = download(archive, tmp_path, policy=QUICK)
    assert place.read_bytes() == CONTENT
    assert names(tmp_path) == [f"{sha256(CONTENT)[:16]}.archive"]
    assert caplog.messages[-1] == f"{archive.url}: fetched and verified, {len(CONTENT):,} bytes"
    assert "B/s" not in capfd.readouterr().err, "bars are for terminals"
    assert download(archive, tmp_path, policy=QUICK) == place
    assert len(server.log) == 1

    place.write_bytes(CONTENT[:-1] + b"?")  # a damaged disk
    assert download(archive, tmp_path, policy=QUICK, progress=False).read_bytes() == CONTENT
    assert len(server.log) == 2


@pytest.mark.parametrize("etags", [True, False])
def test_a_cut_connection_goes_on_by_range(archive: Archive, server: FileServer, tmp_path: Path, etags: bool) -> None:
    server.etags = etags
    server.faults += [cut(1_000_000), cut(500_000)]
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1500000-"]
    assert server.sent == len(CONTENT)


def test_the_next_run_goes_on_where_one_gave_up(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [cut(1_200_000)]
    with pytest.raises(DataError, match=r"set.zip: expected the whole file \(1200000 bytes are kept"):
        download(archive, tmp_path, policy=IMPATIENT)
    assert partial(archive, tmp_path).read_bytes() == CONTENT[:1_200_000]
    assert download(archive, tmp_path, policy=IMPATIENT).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1200000-"]
    assert server.sent == len(CONTENT)


def test_many_cuts_do_not_use_up_the_patience_while_bytes_arrive(
    archive: Archive, server: FileServer, tmp_path: Path
) -> None:
    server.faults += [cut(200_000)] * 12
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_file_that_changed_meanwhile_is_begun_anew(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.add("/set.zip", OTHER)
    server.faults += [cut(1_000_000)]
    with pytest.raises(DataError):
        download(archive, tmp_path, policy=IMPATIENT)
    server.add("/set.zip", CONTENT)
    assert download(archive, tmp_path, policy=IMPATIENT).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-"]  # If-Range made the server answer with the whole file


def test_a_changed_file_without_etag_is_found_by_its_digest_and_begun_anew(
    archive: Archive, server: FileServer, tmp_path: Path
) -> None:
    server.etags = False
    server.add("/set.zip", OTHER)
    server.faults += [cut(1_000_000)]
    with pytest.raises(DataError):
        download(archive, tmp_path, policy=IMPATIENT)
    server.add("/set.zip", CONTENT)
    assert download(archive, tmp_path, policy=IMPATIENT).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_a_server_without_ranges_sends_everything_again(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.faults += [cut(1_000_000)]
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    server.faults += [cut(1_000_000)] * 9  # ever the same first bytes are no progress
    with pytest.raises(DataError, match="4 times in a row"):
        download(replace(archive, sha256=sha256(OTHER)), tmp_path, policy=QUICK)


def wrong_range(request: Request) -> None:
    size = len(CONTENT)
    request.head(206, {"Content-Range": f"bytes 5-{size - 1}/{size}", "Content-Length": str(size - 5)})
    request.body(CONTENT[5:])


def other_version(request: Request) -> None:
    """A server that knows ranges but not If-Range."""
    size = len(CONTENT)
    headers = {"Content-Range": f"bytes 1000000-{size - 1}/{size}", "ETag": '"other"'}
    request.head(206, {**headers, "Content-Length": str(size - 1_000_000)})
    request.body(OTHER[1_000_000:])


def no_content_range(request: Request) -> None:
    request.head(206, {"Content-Length": "3"})
    request.body(b"???")


@pytest.mark.parametrize("fault", [wrong_range, other_version, no_content_range, status(416)])
def test_an_answer_that_does_not_fit_what_is_here_is_not_appended(
    archive: Archive, server: FileServer, tmp_path: Path, fault: object
) -> None:
    server.faults += [cut(1_000_000), fault]
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_416_for_a_file_that_is_already_whole(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    tmp_path.joinpath(partial(archive, tmp_path)).write_bytes(CONTENT)  # and what the server had said is lost
    assert download(archive, tmp_path, policy=IMPATIENT).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=3000000-"]
    assert server.sent == 0


def test_a_server_that_does_not_tell_the_length(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.lengths = False
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT


def test_a_server_that_announces_too_much_or_too_little(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [lambda request: request.answer(length=len(CONTENT) + 10)]
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    server.faults += [lambda request: request.answer(CONTENT, length=100)]
    missing = replace(archive, sha256=sha256(OTHER))
    with pytest.raises(DataError, match="in 100 bytes"):
        download(missing, tmp_path, policy=QUICK)
    assert not partial(missing, tmp_path).exists()


def test_another_digest_is_named_and_nothing_is_kept(server: FileServer, tmp_path: Path) -> None:
    archive = Archive(server.add("/set.zip", OTHER), sha256(CONTENT))
    with pytest.raises(DataError) as raised:
        download(archive, tmp_path, policy=QUICK)
    assert sha256(CONTENT) in str(raised.value)
    assert sha256(OTHER) in str(raised.value)
    assert names(tmp_path) == []
    assert len(server.log) == 1  # the server is believed: no second download of the same bytes


def endless(request: Request) -> None:
    request.head(200, {})
    while True:
        request.body(bytes(1 << 16))


def test_a_body_without_an_end_is_refused_and_not_kept(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [endless] * 2
    with pytest.raises(
        DataError, match=r"set\.zip: expected an end to .* found more than 5000000 bytes; nothing was kept"
    ):
        download(archive, tmp_path, policy=replace(QUICK, unannounced=5_000_000))
    assert names(tmp_path) == []
    with pytest.raises(DataError, match=r"set\.zip: expected 3000000 bytes \(size\), found more than 3000000 bytes"):
        download(replace(archive, size=len(CONTENT)), tmp_path, policy=QUICK)
    assert names(tmp_path) == []


def test_what_is_longer_than_its_size_in_the_params_is_not_fetched(server: FileServer, tmp_path: Path) -> None:
    archive = Archive(server.add("/set.zip", CONTENT), sha256(CONTENT), size=1000)
    with pytest.raises(DataError, match=r"expected 1000 bytes \(size\), found more than 1000 bytes; nothing was kept"):
        download(archive, tmp_path, policy=QUICK)
    assert names(tmp_path) == []
    assert download(replace(archive, size=len(CONTENT)), tmp_path, policy=QUICK).read_bytes() == CONTENT


def drip(request: Request) -> None:
    """Never silent, and never done."""
    request.head(200, {"Content-Length": str(len(CONTENT))})
    for place in range(100):
        request.body(CONTENT[place : place + 1])
        time.sleep(0.05)


def test_a_body_that_drips_is_given_up_and_kept(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [drip]
    with pytest.raises(DataError, match=r"set\.zip: expected 1000 bytes per second, found \d+ bytes in \d+ s \(kept"):
        download(archive, tmp_path, policy=replace(QUICK, window=0.4))
    assert 0 < partial(archive, tmp_path).stat().st_size < 100
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT


def test_answers_of_a_few_bytes_each_are_given_up_too(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    """Each brings one byte, so that the attempts are never used up and no wait is short enough for the rate."""
    server.faults += [cut(1)] * 200
    with pytest.raises(DataError, match="expected 1000 bytes per second"):
        download(archive, tmp_path, policy=replace(QUICK, window=0.3))
    assert server.faults


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e9", "٣"])
@pytest.mark.parametrize("name", ["Content-Length", "Content-Range"])
def test_a_length_that_is_none_is_an_unknown_length(
    archive: Archive, server: FileServer, tmp_path: Path, name: str, length: str
) -> None:
    def answer(request: Request) -> None:
        text = f"bytes 0-0/{length}" if name == "Content-Range" else length
        request.head(200 if name == "Content-Length" else 206, {name: text.encode().decode("latin-1")})
        request.body(CONTENT)

    server.faults += [answer]
    assert remote_version(archive, policy=IMPATIENT).size is None


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "an HTML page (sign in? token_env names the variable"),
        (b'{"message": "Bad credentials"}', "text, which a server answers in place of a file"),
    ],
)
def test_a_page_in_place_of_the_archive_is_called_that(
    archive: Archive, server: FileServer, tmp_path: Path, page: bytes, kind: str
) -> None:
    server.files["/set.zip"] = page
    with pytest.raises(DataError) as raised:
        download(archive, tmp_path, policy=QUICK)
    assert f"got {kind}" in str(raised.value) and "set.zip: expected sha256" in str(raised.value)


def test_an_address_that_is_none_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"expected an address such as https://host/archive\.zip, found none"):
        Archive("http://[::1/set.zip", sha256(CONTENT))


def test_a_server_that_refuses_ftp_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ftp://127\.0\.0\.1:1/set\.zip: expected"):
        download(Archive("ftp://127.0.0.1:1/set.zip", sha256(CONTENT)), tmp_path, policy=IMPATIENT)


@pytest.mark.parametrize("code", [429, 503, 500, 408])
def test_a_busy_server_is_asked_again(archive: Archive, server: FileServer, tmp_path: Path, code: int) -> None:
    server.faults += [status(code), cut(1_000_000), status(code, Retry_After="soon"), status(code)]
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_server_is_obeyed_when_it_says_how_long_to_wait(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [status(429, Retry_After="1")]
    begin = time.monotonic()
    download(archive, tmp_path, policy=QUICK)
    assert time.monotonic() - begin >= 1


def test_patience_ends(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [status(503)] * 9
    with pytest.raises(DataError, match=r"set.zip: expected the whole file .* found 503 Service Unavailable, 4 times"):
        download(archive, tmp_path, policy=QUICK)
    assert len(server.log) == 4


def test_a_server_that_hangs_is_bounded(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [hang(30)] * 2
    begin = time.monotonic()
    with pytest.raises(DataError, match="timed out, 2 times in a row"):
        download(archive, tmp_path, policy=replace(QUICK, retries=1, silence=0.3))
    assert time.monotonic() - begin < 20


def test_redirects_are_followed_but_not_for_ever(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    server.faults += [redirect("/set.zip")] * 2
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    server.faults += [redirect("/set.zip")] * 30
    with pytest.raises(DataError, match="more than 10 redirects"):
        download(replace(archive, sha256=sha256(OTHER)), tmp_path, policy=QUICK)
    server.faults.clear()
    server.faults += [redirect("file:///etc/passwd")]
    with pytest.raises(DataError, match="expected a file over http"):
        download(replace(archive, sha256=sha256(OTHER)), tmp_path, policy=QUICK)


@pytest.mark.parametrize("code", [400, 404, 410, 501])
def test_a_refusal_is_not_repeated(archive: Archive, server: FileServer, tmp_path: Path, code: int) -> None:
    server.faults += [status(code)]
    with pytest.raises(DataError, match=f"set.zip: expected a file, found {code}"):
        download(archive, tmp_path, policy=QUICK)
    assert len(server.log) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    archive = Archive("http://127.0.0.1:9/set.zip?token=$DATA_TOKEN", sha256(CONTENT))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="Connection refused") as raised:
        patch.setenv("DATA_TOKEN", "hush")
        download(archive, tmp_path, policy=QUICK)
    assert "hush" not in str(raised.value)


def test_credentials_from_netrc(
    archive: Archive, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.expects = "Basic bWU6aHVzaA=="  # me:hush
    with pytest.raises(DataError, match=r"expected access, found 401 Unauthorized; the credentials .* expired"):
        download(archive, tmp_path, policy=QUICK)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT


def test_a_token_that_expires_midway_is_renewed_and_the_download_goes_on(
    archive: Archive, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = replace(archive, token_env="DATA_TOKEN")  # noqa: S106
    with pytest.raises(UserError, match="token in the variable DATA_TOKEN, which is not set"):
        download(archive, tmp_path, policy=QUICK)
    server.expects = "Bearer first"
    monkeypatch.setenv("DATA_TOKEN", "first")
    server.faults += [cut(1_000_000), status(401)]
    with pytest.raises(DataError, match="401") as raised:
        download(archive, tmp_path, policy=QUICK)
    assert "first" not in str(raised.value)
    server.expects = "Bearer second"
    monkeypatch.setenv("DATA_TOKEN", "second")
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_token_does_not_follow_a_redirect_to_another_host(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_TOKEN", "hush")
    server.add("/set.zip", CONTENT)
    address = f"http://localhost:{server.server_port}/set.zip"
    server.faults += [redirect(f"http://127.0.0.1:{server.server_port}/set.zip")]
    download(Archive(address, sha256(CONTENT), "DATA_TOKEN"), tmp_path, policy=QUICK)
    assert [sent for _, _, sent in server.log] == ["Bearer hush", None]


def test_a_server_that_nobody_vouches_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_TOKEN", "hush")
    with https_server(tmp_path, "localhost") as (here, of_here), https_server(tmp_path, "other") as (other, of_other):
        for server, trusted, is_right in ((here, of_other, False), (other, of_other, False), (here, of_here, True)):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
            server.add("/set.zip", CONTENT)
            archive = Archive(f"https://localhost:{server.server_port}/set.zip", sha256(CONTENT), "DATA_TOKEN")
            if is_right:
                assert download(archive, tmp_path, policy=IMPATIENT).read_bytes() == CONTENT
                continue
            with pytest.raises(UserError) as refused:
                download(archive, tmp_path, policy=IMPATIENT)
            assert server.log == [] and "hush" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hush@host/set.zip",
        "https://hush@host/set.zip",
        "s3://me:hush@bucket/set.tar",
        "https://host/set.zip?token=hush",
        "https://host/set.zip?part=1&X-Amz-Signature=hush",
        "https://host/set.zip?auth=hush",
        "https://host/set.zip?key=hush",
        "https://host/set.zip?AccessKey=hush",
        "https://host/set.zip?X-Amz-Credential=hush",
        "https://host/set.zip#token=hush",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError) as raised:
        check_address(url)
    assert "hush" not in str(raised.value)
    assert "host" in str(raised.value) or "bucket" in str(raised.value)


def test_addresses_that_hold_no_credentials() -> None:
    for url in ("https://host/a.zip?part=1", "https://host/a.zip?token=$T", "s3://bucket/a.tar", "file:///a.zip"):
        check_address(url)
    with pytest.raises(UserError, match="expected an address such as"):
        check_address("/data/set.zip")


def test_variables_in_an_address(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("/set.zip", CONTENT)
    archive = Archive(f"http://127.0.0.1:{server.server_port}/$NAME", sha256(CONTENT))
    with pytest.raises(UserError, match="expected the environment variable NAME, which is not set"):
        download(archive, tmp_path, policy=QUICK)
    monkeypatch.setenv("NAME", "set.zip")
    assert download(archive, tmp_path, policy=QUICK).read_bytes() == CONTENT


def test_the_disk_is_asked_before_anything_is_fetched(archive: Archive, server: FileServer, tmp_path: Path) -> None:
    def huge(request: Request) -> None:
        request.head(206, {"Content-Range": f"bytes 0-0/{10**16}", "Content-Length": "1"})

    server.faults += [huge]
    with pytest.raises(DataError, match=r"expected 20000000.0 GB free for 1 archives and what they hold, found"):
        download_all([archive], tmp_path, policy=QUICK)
    assert names(tmp_path) == []
    assert ranges(server) == ["bytes=0-0"]
    assert server.sent == 0


def test_several_archives(server: FileServer, tmp_path: Path) -> None:
    archives = [Archive(server.add(f"/{name}", name.encode() * 9), sha256(name.encode() * 9)) for name in ("a", "b")]
    for _ in range(2):
        places = download_all(archives, tmp_path, policy=QUICK)
        assert [place.read_bytes() for place in places] == [b"a" * 9, b"b" * 9]
    assert len(server.log) == 4  # two looks, two downloads, and nothing the second time


def test_a_look_tells_a_changed_file(archive: Archive, server: FileServer) -> None:
    first = remote_version(archive, policy=QUICK)
    assert first.size == len(CONTENT)
    assert remote_version(archive, policy=QUICK) == first
    server.ranges = False
    assert remote_version(archive, policy=QUICK) == first
    server.add("/set.zip", OTHER)
    assert remote_version(archive, policy=QUICK) != first
    assert server.sent < len(CONTENT)


def test_fsspec_addresses_go_on_too(tmp_path: Path) -> None:
    source = tmp_path / "set.tar"
    source.write_bytes(CONTENT)
    archive = Archive(source.as_uri(), sha256(CONTENT))
    folder = tmp_path / "downloads"
    assert remote_version(archive).size == len(CONTENT)
    assert download(archive, folder, policy=QUICK).read_bytes() == CONTENT

    memory = Archive("memory://set.tar", sha256(CONTENT))
    fsspec.filesystem("memory").pipe("/set.tar", CONTENT)
    (folder / f"{archive.sha256[:16]}.archive").unlink()
    partial(archive, folder).write_bytes(CONTENT[:1_000_000])
    assert download(memory, folder, policy=QUICK).read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"memory://none.tar: expected a file, found none"):
        remote_version(Archive("memory://none.tar", sha256(CONTENT)))


@pytest.mark.parametrize(("protocol", "library"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_extra_is_named(protocol: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(UserError, match=f"library for {protocol}://, which is not there: pip install {library}"):
        remote_version(Archive(f"{protocol}://bucket/set.tar", sha256(CONTENT)))


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(UserError, match="expected a protocol that fsspec knows, found pigeon://"):
        remote_version(Archive("pigeon://coop/set.tar", sha256(CONTENT)))


def test_two_downloads_of_one_archive_do_not_mix(archive: Archive, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / f"{archive.sha256[:16]}.lock"),
        pytest.raises(UserError, match="another process is already downloading"),
    ):
        download(archive, tmp_path, policy=QUICK)
