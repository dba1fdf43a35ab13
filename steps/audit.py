"""`python -m steps.audit VERSION`: the chain behind a version, and what of it can be made again byte for byte.

From the version's own files to the commit, its dvc.lock, every object of data and weights that this names, the gate's
decisions and the signed statements: each is looked up where it is now, and what is not there is named.
"""

import json
import logging
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import yaml

from mobile_centernet.errors import UserError, exit_on_user_error
from mobile_centernet.files import file_digest
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.doctor import NOTE, OK, WRONG, Checkup, print_checkups
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registry.published import Channel, pinned_files, trust_repository
from mobile_centernet.mlops.registry.registry import Registry, RegistryError, Version
from mobile_centernet.mlops.registry.version_files import MANIFEST
from mobile_centernet.trust.layout import CHANNELS

SHOWN = 12  # digits of a digest
UNKNOWN = 40 * "0"


@click.command()
@click.argument("which", metavar="VERSION_OR_ALIAS")
def main(which: str) -> None:
    """Rebuild the chain behind a version, and say what can be made again byte for byte, and what is missing.

    Exit code 0: nothing is missing. 1: something is. 2: there is no such version, or MLflow does not answer.
    """
    setup_logging()
    with exit_on_user_error("audit"):
        params = load_params(paths.PARAMS)
        registry = Registry(params.register_.name)
        version = registry.resolve(which)
        click.echo(f"{registry.name} version {version.number}, registered {version.created:%Y-%m-%d %H:%M} UTC")
        with TemporaryDirectory() as folder:
            try:
                files = pinned_files(registry, version, Path(folder), params)
            except UserError as error:
                found = [Checkup("files", WRONG, str(error), "a backup of MLflow's artifacts")]
            else:
                pin, held = file_digest(files.folder / MANIFEST)[:SHOWN], ", ".join(files.manifest.files)
                found = [
                    Checkup("files", OK, f"as manifest {pin} pins them: {held}"),
                    *origin(version, files.folder),
                    *data(files.folder),
                    *again(files.params),
                ]
            found += decisions(registry, version, Path(folder))
    raise SystemExit(print_checkups(found))


def origin(version: Version, folder: Path) -> Iterator[Checkup]:
    """The commit, its params.yaml, and the dvc.lock that the version holds."""
    named = version.tags.get("git_commit", "unknown")
    # Whoever may write tags may write anything: nothing but a commit becomes an argument of git.
    commit = named.removesuffix("-dirty") if re.fullmatch(r"[0-9a-f]{40}(-dirty)?", named) else UNKNOWN
    known = git("log", "-1", "--format=%cs %s", commit)
    if known is None:
        yield Checkup("commit", WRONG, f"{named}: not in this clone", "git fetch --all")
    elif named != commit:
        yield Checkup(
            "commit", NOTE, f"{commit[:SHOWN]} and changes that no commit has", "commit before a run that counts"
        )
    else:
        at = ", ".join((git("branch", "--remotes", "--format=%(refname:short)", "--contains", commit) or "").split())
        yield Checkup(
            "commit",
            OK if at else NOTE,
            f"{commit[:SHOWN]} {known}; {at or 'no remote has it'}",
            "" if at else "git push",
        )
    then = git("show", f"{commit}:{paths.PARAMS}")
    same = then is not None and then == (folder / paths.PARAMS.name).read_text(encoding="utf-8").strip()
    yield Checkup(
        "params", OK if same else NOTE, "the commit's" if same else "not the commit's: the version holds its own"
    )

    lock = folder / paths.DVC_LOCK.name
    if not lock.is_file():
        yield Checkup("dvc.lock", WRONG, "none in the version: it was registered by an older release")
        return
    blob = git("hash-object", str(lock)) or ""
    commits = (
        git("log", "--all", "--format=%h %cs", f"--find-object={blob}", "--", str(paths.DVC_LOCK)) or ""
    ).splitlines()
    where = f"committed by {commits[-1]}" if commits else "in no commit: the version holds the only one"
    yield Checkup("dvc.lock", OK if commits else NOTE, f"{file_digest(lock)[:SHOWN]}, {where}")


def data(folder: Path) -> Iterator[Checkup]:
    """Every object of data and weights that the version's dvc.lock names: here, or in the DVC remote, or nowhere."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    lock = folder / paths.DVC_LOCK.name
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    logging.getLogger("dvc").setLevel(logging.ERROR)
    with Repo() as repo:
        stores = {"the cache": repo.cache.local}
        try:
            stores["the DVC remote"] = repo.cloud.get_remote_odb()
        except DvcException as error:
            remedy = "dvc remote add --default NAME URL; dvc push: a lost disk takes all of it"
            yield Checkup("DVC remote", NOTE, str(error).splitlines()[0], remedy)
        for out in (out for stage in stages.values() for out in stage.get("outs", ())):
            if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(out.get("md5"))):
                yield Checkup(
                    "data", WRONG, f"{out['path']}: expected an MD5 digest in dvc.lock, found {out.get('md5')!r}"
                )
                continue
            wanted = {str(out["md5"])}
            if out["md5"].endswith(".dir"):
                holder = next((odb for odb in stores.values() if odb.exists(out["md5"])), None)
                if holder is not None:
                    listed = json.loads(holder.fs.cat_file(holder.oid_to_path(out["md5"])))
                    wanted |= {entry["md5"] for entry in listed}
            there = {name: wanted.intersection(odb.oids_exist(sorted(wanted))) for name, odb in stores.items()}
            lost = sorted(wanted.difference(*there.values()))
            says = ", ".join(f"{len(oids)} in {name}" for name, oids in there.items())
            nowhere = (
                f"; nowhere: {', '.join(oid[:SHOWN] for oid in lost[:3])}{' ...' * (len(lost) > 3)}" if lost else ""
            )
            partial = "the DVC remote" in there and there["the DVC remote"] != wanted
            yield Checkup(
                "data",
                WRONG if lost else NOTE if partial else OK,
                f"{out['path']}: {len(wanted)} objects, {says}{nowhere}",
                "a clone that has them: dvc push" if lost else "dvc push" * partial,
            )


def again(params: Mapping[str, Any]) -> Iterator[Checkup]:
    """What a training from the same data gives."""
    precision = params["hardware"]["precision"]
    if precision == "fp32":
        yield Checkup("trainings", OK, "fp32: equal bytes on one machine, with as many threads and requirements.lock")
    else:
        yield Checkup(
            "trainings", NOTE, f"hardware.precision {precision}: training again gives other bytes; `dvc pull` has these"
        )


def decisions(registry: Registry, version: Version, folder: Path) -> Iterator[Checkup]:
    """What the gate decided, as MLflow, the audit log and the signed statements say."""
    try:
        kept = registry.download(version, folder, "promotion")
        documents = {file_digest(path): json.loads(path.read_bytes()) for path in sorted(kept.rglob("decision.json"))}
    except RegistryError:
        documents = {}
    for digest, decided in documents.items():
        verdict = "passed" if decided["decision"] == "promote" else f"failed: {', '.join(decided['failed'])}"
        yield Checkup("gate", OK, f"{decided['judged_at']}: {verdict} (decision {digest[:SHOWN]})")
    if not documents:
        yield Checkup("gate", NOTE, "never judged, as far as MLflow knows")
    lines = (
        [json.loads(line) for line in paths.AUDIT.read_text(encoding="utf-8").splitlines()]
        if paths.AUDIT.is_file()
        else []
    )
    for line in lines:
        if (line["name"], line["version"]) == (registry.name, version.number):
            by = f" by {line['by']}" if line["by"] else ""
            unknown = line["decision_sha256"] not in (None, *documents)
            yield Checkup(
                paths.AUDIT.name,
                WRONG if unknown else OK,
                f"{line['time']}: {line['event']}{by}"
                + f", decision {line['decision_sha256'][:SHOWN]} is not in MLflow" * unknown,
            )
    params = load_params(paths.PARAMS)
    if not (repository := trust_repository(params)):
        yield Checkup("signed", NOTE, "nothing: trust.repository names none")
        return
    for name in CHANNELS:
        for statement in Channel.read(repository, registry.name, name).statements:
            if statement.version == str(version.number):
                known, gate = statement.gate in documents, str(statement.gate)
                agreed = f", agreed by {statement.approver}" if statement.approver else ""
                says = f"{name} statement {statement.number}, decision {gate[:SHOWN]}{agreed}"
                yield Checkup("signed", OK if known else WRONG, says if known else f"{says}: not in MLflow")


def git(*arguments: str) -> str | None:
    """What git says; None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    main()
