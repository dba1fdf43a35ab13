"""`mobile-centernet registry` on sqlite, and the same registry behind a real MLflow server with passwords."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import requests
from click.testing import CliRunner, Result

from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.reports import Outbox
from mobile_centernet.agent.store import AgentStore, Installed
from mobile_centernet.cli.main import LazyGroup, main
from mobile_centernet.files import file_digest
from mobile_centernet.mlops.cli import registry as commands
from mobile_centernet.mlops.promotion.promote import DONE, promote
from mobile_centernet.mlops.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, RegistryError
from mobile_centernet.mlops.registry.version_files import KIND, MANIFEST, VersionFiles
from steps.register import register
from tests.helpers import registry_project as small
from tests.helpers.mlflow_servers import RealServer, free_port, hanging_server
from tests.helpers.settings import to_toml

ROOT = Path(__file__).resolve().parents[3]
ADMIN, PIPELINE, DEVICE = ("admin", "correct horse 1"), ("pipeline", "battery staple 2"), ("device", "read it only 3")


def run(*arguments: str) -> Result:
    """The group as `mobile-centernet` runs it: a UserError is one sentence and exit code 2."""
    group = LazyGroup(commands={"registry": commands})
    return CliRunner().invoke(group, ["registry", *arguments])


# --- sqlite ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_versions(registry_folder: Path) -> str:
    """Version 1 previous, 2 champion, 3 challenger; nothing in these tests changes them."""
    name = "three"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(registry_folder)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        for number, boxes in enumerate((small.HALF, small.SLOPPY, small.GOOD), start=1):
            params = small.write_params(name, min_map50=number / 10)
            small.export_model(boxes, f"{name} {number}")
            register(params)
        registry = Registry(name)
        registry.set_alias(PREVIOUS, 1)
        registry.set_alias(CHAMPION, 2)
    return name


@pytest.fixture
def three(three_versions: str, registry_project: Path) -> Registry:
    small.write_params(three_versions)
    return Registry(three_versions)


def test_list_is_a_table_newest_first(three: Registry) -> None:
    lines = run("list").output.splitlines()
    assert re.split(r" {2,}", lines[0]) == ["version", "aliases", "mAP@0.5", "registered, UTC", "ONNX sha256", "commit"]
    assert [line.split()[:2] for line in lines[1:]] == [["3", "challenger"], ["2", "champion"], ["1", "previous"]]
    found = json.loads(run("list", "--json").output)
    assert [(row["version"], row["aliases"]) for row in found] == [(3, [CHALLENGER]), (2, [CHAMPION]), (1, [PREVIOUS])]
    assert all(len(row["tags"]["onnx_sha256"]) == 64 for row in found)


def test_show_by_number_and_by_alias(three: Registry) -> None:
    assert run("show", "2").output == run("show", "champion").output
    output = run("show", "champion").output
    for part in (
        "2 of three",
        "champion",
        "vehicle, pedestrian",
        "64x64",
        "parity fp32",
        "within limits",
        "model.fp32.onnx",
    ):
        assert part in output
    document = json.loads(run("show", "champion", "--json").output)
    assert document["manifest"]["files"].keys() == {
        "metrics.json", "model.fp32.onnx", "parity.json", "params.yaml", "seen.json", "student.safetensors"
    }  # fmt: skip


def test_diff_names_what_changed_and_nothing_else(three: Registry) -> None:
    found = json.loads(run("diff", "previous", "champion", "--json").output)
    assert found["params promotion.min_map50"] == ["0.1", "0.2"]
    assert {"onnx_sha256", "params_sha256", "export_sha256", "manifest_sha256"} <= set(found)
    assert not any(key.startswith("params ") and "min_map50" not in key for key in found)
    assert "params promotion.min_map50" in run("diff", "1", "2").output
    assert run("diff", "1", "1").output == "version 1 and version 1 of three do not differ\n"


def test_download_writes_checked_files_into_a_new_folder(three: Registry, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "champion"
    assert run("download", "champion", "--out", str(out)).exit_code == 0
    assert VersionFiles.checked(out, three.version(2).tags["manifest_sha256"]).model("fp32").is_file()
    again = run("download", "champion", "--out", str(out))
    assert (again.exit_code, "expected a new or empty folder" in again.output) == (2, True)
    assert [path.name for path in out.parent.iterdir()] == ["champion"]


def pinned(folder: Path, files: object, **others: bytes) -> str:
    """A version's folder whose manifest says that of its files; returns the digest that pins it."""
    folder.mkdir()
    manifest = {"kind": KIND, "format": 1, "model": "m", "classes": ["a"], "input_size": {}, "lineage": {}}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"files": files}))
    for name, content in others.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return file_digest(folder / MANIFEST)


@pytest.mark.parametrize(
    ("files", "others", "sentence"),
    [
        ({}, {"extra_sh": b"rm"}, "expected no files but the registered ones, found extra.sh"),
        ({"../../../../etc/hostname": {"sha256": "0" * 64, "bytes": 1}}, {}, "found no such file"),
        ({"/etc/hostname": {"sha256": "0" * 64, "bytes": 1}}, {}, "found no such file"),
        ({"a.onnx": 5}, {"a_onnx": b""}, "expected what `python -m steps register` writes"),
        ([], {}, "expected what `python -m steps register` writes"),
    ],
)
def test_a_version_holds_what_its_manifest_names_and_nothing_else(
    tmp_path: Path, files: object, others: dict[str, bytes], sentence: str
) -> None:
    digest = pinned(tmp_path / "version", files, **others)
    with pytest.raises(RegistryError, match=re.escape(sentence)):
        VersionFiles.checked(tmp_path / "version", digest)


def test_a_manifest_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"[" * 100_000)
    with pytest.raises(RegistryError, match="nested so deep"):
        VersionFiles.checked(tmp_path, file_digest(tmp_path / MANIFEST))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("params", [BOMB, "a: !!python/object/apply:os.system [true]", "[" * 100_000, "a: \x00"])
def test_params_that_grow_or_run_are_refused(tmp_path: Path, params: str) -> None:
    """`registry diff` reads them of versions that anybody may have written."""
    text = params.encode()
    row = {"params.yaml": {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}}
    files = VersionFiles.checked(tmp_path / "version", pinned(tmp_path / "version", row, params_yaml=text))
    with pytest.raises(RegistryError, match=r"params\.yaml: expected "):
        print(files.params)


@pytest.mark.parametrize(
    ("which", "sentence"), [("9", "version=9) not found"), ("best", "found 'best'; the registry has ")]
)
def test_an_unknown_version_is_one_sentence(three: Registry, which: str, sentence: str) -> None:
    result = run("show", which)
    assert result.exit_code == 2
    assert result.output.startswith("error: ") and sentence in result.output and result.output.count("\n") == 1


def test_an_empty_registry(registry_project: Path) -> None:
    small.write_params("nobody")
    assert run("list").output == "nobody: no versions yet (python -m steps register makes the first)\n"
    assert run("rollback").exit_code == 2


def test_outside_a_project_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("list")
    assert (result.exit_code, result.output.startswith("error: params.yaml: expected the pipeline's")) == (2, True)
    assert list(tmp_path.iterdir()) == []


# --- the plug-in ----------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the entry points of pyproject.toml are installed, wherever the package itself is."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path / "site" / "plug_ins-0.dist-info"
    folder.mkdir(parents=True)
    lines = [
        line for group, table in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in table.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-ins\nVersion: 0\n")
    path = os.pathsep.join([str(folder.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def mobile_centernet(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from mobile_centernet.cli.main import main; main(prog_name='mobile-centernet')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_the_group_joins_the_command_line_by_its_entry_point(installed: dict[str, str], tmp_path: Path) -> None:
    help_page = mobile_centernet(installed, "--help").stdout
    assert re.search(r"^ {2}registry +Versions in MLflow", help_page, re.MULTILINE)
    group = mobile_centernet(installed, "registry", "--help").stdout
    assert [
        command for command in ("list", "show", "diff", "download", "rollback") if f"  {command} " not in group
    ] == []
    code = (
        "import sys; from mobile_centernet.cli.main import main\n"
        "main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True)
    assert "mobile_centernet.mlops.cli" in done.stdout  # loaded for its help, and nothing heavy with it
    assert not {"mlflow", "torch", "numpy", "pydantic", "yaml"} & set(done.stdout.split())


def test_without_plug_ins_an_unknown_command_is_clicks_own_error() -> None:
    result = CliRunner().invoke(main, ["no-such-command"])
    assert (result.exit_code, "No such command" in result.output) == (2, True)


# --- a real server with passwords -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow server` as docs/mlflow.md starts it, with a pipeline that may write and a device that may read."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "basic_auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n"
        f"admin_username = {ADMIN[0]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for this test",
    }
    real = RealServer(folder, "--app-name", "basic-auth", env=env)
    try:
        real.start()
        for user, password in (PIPELINE, DEVICE):
            body = {"username": user, "password": password}
            place = f"{real.url}/api/2.0/mlflow/users/create"
            requests.post(place, json=body, auth=ADMIN, timeout=60).raise_for_status()
        yield real.url
    finally:
        real.kill()


@pytest.fixture
def at_server(server: str, registry_project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    mlflow.set_tracking_uri(server)  # what MLFLOW_TRACKING_URI does in a process of its own
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # a busy machine is no dead server
    log_in(monkeypatch, PIPELINE)
    yield monkeypatch
    mlflow.set_tracking_uri(None)


def log_in(monkeypatch: pytest.MonkeyPatch, user: tuple[str, str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", user[1])


def test_register_promote_and_download_at_a_server_with_passwords(
    at_server: pytest.MonkeyPatch, server: str, installed: dict[str, str], tmp_path: Path
) -> None:
    params = small.write_params("served")
    small.export_model(small.SLOPPY, "served 1")
    register(params)
    register(params)
    assert promote(params).code == DONE
    exported = small.export_model(small.GOOD, "served 2").read_bytes()
    register(params)
    assert promote(params, approved_by="Ann").code == DONE
    registry = Registry("served")
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    assert mlflow.onnx.load_model("models:/served@champion").graph.name == "served 2"

    log_in(at_server, DEVICE)
    on_device = Registry("served")
    version = on_device.resolve(CHAMPION)
    files = VersionFiles.checked(on_device.download(version, tmp_path), version.tags["manifest_sha256"])
    assert files.model("fp32").read_bytes() == exported
    with pytest.raises(RegistryError, match=r"setting alias champion of served failed: .*Permission denied"):
        on_device.set_alias(CHAMPION, 1)
    with pytest.raises(RegistryError, match=r"tagging version 2 of served failed: .*Permission denied"):
        on_device.tag(2, map50="1.0")
    assert on_device.aliases()[CHAMPION] == 2

    env = installed | dict(zip(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), PIPELINE, strict=True))
    listed = mobile_centernet(env | {"MLFLOW_TRACKING_URI": server}, "registry", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "challenger, champion" in listed.stdout


def test_a_reader_of_the_registry_may_not_report(
    at_server: pytest.MonkeyPatch, server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary's account needs more than a reader's, and is told so."""
    params = small.write_params("bundled")
    small.export_model(small.GOOD, "bundled")
    register(params)
    log_in(at_server, DEVICE)
    (tmp_path / "edge.toml").write_text(
        to_toml(
            {
                "trust": {"url": server, "root": "root.json", "model": "bundled", "timeout_s": 120},
                "report": {"url": server},
                "paths": {"root": "device"},
            }
        )
    )
    config = load_config(tmp_path / "edge.toml")
    store = AgentStore(config.paths.root)
    store.create()
    outbox = Outbox(config, store, lambda: None)
    outbox.put(Installed("0" * 64, "1", 1, "0" * 64), "healthy", "now")
    outbox.send()
    assert "found status 403" in caplog.text and outbox._waiting
    log_in(at_server, PIPELINE)
    assert promote(params).code == DONE
    outbox.send()
    assert "edge.health." in str(Registry("bundled").version(1).tags) and not outbox._waiting


def test_a_wrong_password_is_one_sentence_without_it(at_server: pytest.MonkeyPatch, server: str) -> None:
    log_in(at_server, ("pipeline", "hush-hush"))
    small.write_params("served")
    result = run("list")
    assert result.exit_code == 2
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in result.output and result.output.count("\n") == 1
    mlflow.set_tracking_uri(server.replace("://", "://pipeline:hush-hush@"))
    assert "hush" not in result.output + run("list").output


def test_a_dead_server_is_one_sentence_soon(registry_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    small.write_params("dead")
    begin = time.monotonic()
    try:
        mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
        result = run("list")
    finally:
        mlflow.set_tracking_uri(None)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert result.output.startswith("error: MLflow registry: connecting failed: ")
    assert time.monotonic() - begin < 30


def test_a_server_that_never_answers_is_given_up(registry_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    small.write_params("silent")
    with hanging_server() as url:
        try:
            mlflow.set_tracking_uri(url)
            result = run("list")
        finally:
            mlflow.set_tracking_uri(None)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
