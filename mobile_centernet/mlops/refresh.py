"""`python -m steps.refresh`: ask every address in params.yaml whether its file has changed.

What the servers say (ETag, date, size) is kept in the file that `path` names, which the fetch stage depends on. So a
changed file makes exactly that stage stale. New bytes are still taken only once their digest stands in params.yaml:
until then the stage uses the archive it has, or stops and names both digests.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mobile_centernet.data.download.download import remote_version
from mobile_centernet.data.download.remote import Archive
from mobile_centernet.errors import UserError
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params, load_params


def refresh(params: Params) -> list[str]:
    """Bring the files up to date; returns the addresses whose files have changed or were not known yet.

    Raises UserError where a server gives no answer or the file is damaged; then no file is written.
    """
    now: dict[Path, dict[str, object]] = {}
    for section in (params.fetch_bdd100k, params.fetch_ivslab):
        for entry in section.archives:
            now.setdefault(section.path, {})[entry.url] = asdict(remote_version(Archive(**entry.model_dump())))
    before = {path: _read(path) for path in now}
    for path, document in now.items():
        if document != before[path]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, document)
    return [url for path, document in now.items() for url in document if before[path].get(url) != document[url]]


def _read(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: expected what `python -m steps.refresh` wrote, found: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected what `python -m steps.refresh` wrote, found a {type(document).__name__}")
    return document


def main() -> int:
    """Exit 0 when every server has answered, 2 with one sentence otherwise."""
    try:
        changed = refresh(load_params(paths.PARAMS))
    except (UserError, OSError) as error:
        print(f"error: refresh: {error}", file=sys.stderr)
        return 2
    for url in changed:
        print(f"changed: {url}")
    print(f"{len(changed)} changed" if changed else "nothing changed")
    return 0
