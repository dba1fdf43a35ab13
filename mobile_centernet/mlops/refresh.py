"""`python -m steps.refresh`: ask every address in params.yaml whether its file, or bucket of frames, has changed.

What the servers say (ETag, date, size) is kept in the file that `path` names, which the fetch stage depends on. So a
changed file makes exactly that stage stale. New bytes are still taken only once their digest stands in params.yaml:
until then the stage uses the archive it has, or stops and names both digests.
"""

import json
from dataclasses import asdict
from pathlib import Path

import click

from mobile_centernet.data.download.download import remote_version
from mobile_centernet.data.download.remote import Archive
from mobile_centernet.errors import UserError, exit_on_user_error
from mobile_centernet.files import write_json
from mobile_centernet.intake import records_in
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import fingerprint
from mobile_centernet.mlops.params import Params, load_params


def refresh(params: Params) -> list[str]:
    """Bring the files up to date; returns the addresses whose files have changed or were not known yet.

    Raises UserError where a server gives no answer or the file is damaged; then no file is written.
    """
    now: dict[Path, dict[str, object]] = {}
    for section in (params.fetch_bdd100k, params.fetch_ivslab):
        for entry in section.archives:
            now.setdefault(section.path, {})[entry.url] = asdict(remote_version(Archive(**entry.model_dump())))
    if params.fetch_field.url:
        _, _, names = records_in(params.fetch_field.url)  # made of their frames' digests
        now[params.fetch_field.path] = {params.fetch_field.url: {"frames": len(names), "names": fingerprint(names)}}
    before: dict[Path, dict[str, object]] = {}
    for path in now:
        try:
            document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise UserError(f"{path}: expected what `python -m steps.refresh` wrote, found: {error}") from error
        if not isinstance(document, dict):
            raise UserError(f"{path}: expected what `python -m steps.refresh` wrote, found a {type(document).__name__}")
        before[path] = document
    for path, document in now.items():
        if document != before[path]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, document)
    return [url for path, document in now.items() for url in document if before[path].get(url) != document[url]]


@click.command()
def main() -> None:
    """Ask every address in params.yaml whether its file has changed.

    Exit code 0: every server has answered. 2: one has not, told in one sentence.
    """
    setup_logging()
    with exit_on_user_error("refresh"):
        changed = refresh(load_params(paths.PARAMS))
    for url in changed:
        click.echo(f"changed: {url}")
    click.echo(f"{len(changed)} changed" if changed else "nothing changed")
