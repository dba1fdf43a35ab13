"""`mobile-centernet trust` as operators type it, in a project of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from mobile_centernet.cli.main import main
from mobile_centernet.trust.ceremony import Staged
from mobile_centernet.trust.keys import public_key
from mobile_centernet.trust.layout import LIFE_DAYS
from mobile_centernet.trust.repository import open_repository

KEYS = {role: [f"keys/{role}.key"] for role in LIFE_DAYS} | {
    "root": [f"keys/root-{number}.key" for number in (1, 2, 3)]
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    section = {"repository": "served", "root": "trust/root.json", "keys": KEYS}
    Path("params.yaml").write_text(yaml.safe_dump({"trust": section}))
    return tmp_path


def trust(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["trust", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_from_the_first_key_to_a_revoked_one(project: Path) -> None:
    assert "keys/root-3.key: the new private key of root" in trust("init").output
    assert Path("trust/root.json").is_file() and oct(Path("keys/root-1.key").stat().st_mode)[-3:] == "600"
    assert "expected no repository yet, found one" in trust("init", code=2).output
    assert trust("refresh").output == "renewed: timestamp\n"

    repository = open_repository("served", Path("trust/root.json"), KEYS)
    bundle = repository.publish_bundle(b"first", "street", "1", "a" * 64)
    statement = repository.next_statement(repository.state(), "champion", bundle)
    staged = Staged("champion", repository.stage_statement(repository.state(), statement), statement)
    Path("staged.json").write_bytes(staged.encode())
    Path("keys/champion.key").rename("elsewhere.key")
    assert "champion: expected 1 more of the signatures" in trust("sign", "staged.json", "--yes", code=2).output
    signed = trust("sign", "staged.json", "--approve-by", "Ann", "--yes", "--key", "champion=elsewhere.key")
    assert '"approver": "Ann"' in signed.output and "signed and published" in signed.output
    assert f"champion 1: street 1, manifest {'a' * 64}, agreed by Ann" in trust("show").output

    old = public_key("elsewhere.key").keyid[:12]
    trust("rotate", "champion", "--old", old, "--new", "keys/champion-2.key")
    new = public_key("keys/champion-2.key").keyid[:12]
    shown = trust("show").output
    assert new in shown and old not in shown

    old = public_key("keys/root-1.key").keyid[:12]
    Path("keys/root-2.key").rename("stick.key")
    Path("keys/root-3.key").rename("third.key")
    assert "root.staged.json" in trust("revoke", "root", old, "--new", "keys/root-4.key").output
    trust("sign", "root.staged.json", "--yes", "--key", "root=stick.key", "--key", "root=keys/root-4.key")
    assert not Path("root.staged.json").exists() and old not in trust("show").output


def test_what_is_missing_or_wrong_is_one_sentence(project: Path) -> None:
    for arguments, said in (
        (["show"], "expected the root.json that `trust init` made"),
        (["show", "--key", "boss=x"], "expected ROLE=... with a role of root"),
        (["show", "--params", "none.yaml"], "none.yaml: trust.repository: expected a folder or s3://BUCKET/FOLDER"),
        (["show", "--repository", "gs://bucket"], "expected a folder or s3://BUCKET/FOLDER"),
        (["init", "--public", "root=none.pub"], "none.pub: expected a public key in PEM form"),
    ):
        output = trust(*arguments, code=2).output
        assert said in output and output.count("\n") == 1


@pytest.mark.parametrize("text", ["[", "trust: 5", "[1]", "trust: {keys: {root: 5}}", "trust: {keys: [root]}", "\x00"])
def test_settings_that_are_none_are_one_sentence(project: Path, text: str) -> None:
    Path("params.yaml").write_text(text)
    assert trust("show", code=2).output.startswith("error: params.yaml: expected the pipeline's settings, found none")


def test_a_key_that_git_would_take_is_not_made(project: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    assert "expected a place that git ignores" in trust("init", code=2).output
    assert not list(Path().rglob("*.key"))
    Path(".gitignore").write_text("*.key\n")
    trust("init")


def test_help_imports_no_library_of_trust() -> None:
    said = "import sys, mobile_centernet.cli.trust; print([n for n in ('tuf', 'cryptography') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True).stdout == "[]\n"
