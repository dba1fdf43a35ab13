"""`mobile-centernet params NAME...`: lay overlays, files of some keys of params.yaml, over it.

params.yaml stays the one file that DVC, stages, pipelines and the ablation read.
"""

from collections.abc import Mapping, MutableMapping
from io import StringIO
from pathlib import Path
from typing import Any

import click
import yaml
from ruamel.yaml import YAML

from mobile_centernet.errors import UserError, exit_on_user_error
from mobile_centernet.files import write_atomically
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.lineage import flatten
from mobile_centernet.mlops.params import load_params, parse_params

REPLACED = frozenset({"class_map", "min_ap50", "thresholds", "latency_ms", "keys"})
"""Mappings whose keys a user chooses: an overlay's takes the place of the whole; sections are changed key by key."""
LAID_OVER = "laid_over"


def lay_over(tree: MutableMapping[str, Any], overlay: Mapping[str, Any], source: Path, above: str = "") -> None:
    """Change the values of `tree` that the overlay has. Raises UserError for a key that `tree` has not."""
    for key, value in overlay.items():
        if key not in tree:
            raise UserError(f"{source}: expected keys of {paths.PARAMS}, found {above}{key}")
        if isinstance(value, Mapping) and isinstance(tree[key], Mapping) and key not in REPLACED:
            lay_over(tree[key], value, source, f"{above}{key}.")
        else:
            tree[key] = value


def with_overlays(text: str, names: tuple[str, ...]) -> str:
    """params.yaml's text with the overlays of these names laid over it in this order, and with its comments.

    The result is what DVC would write: `dvc exp run -S` changes one line of it.

    Raises:
        UserError: an overlay is not there, has a key that params.yaml has not, or others are laid over it already,
            whose values would be mixed with these.
    """
    round_trip = YAML()
    round_trip.default_flow_style = False
    tree = round_trip.load(text)
    if (there := tuple(tree.get(LAID_OVER, ()))) != names[: len(there)]:
        raise UserError(
            f"{paths.PARAMS}: expected no overlay, or {', '.join(names)}; found {', '.join(there)} laid over it: name "
            f"these first, or go back: git checkout {paths.PARAMS}"
        )
    for name in names:
        file = paths.OVERLAYS / f"{name}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in paths.OVERLAYS.glob("*.yaml")))
            raise UserError(f"{file}: expected an overlay ({known}), found no such file")
        lay_over(tree, yaml.safe_load(file.read_text(encoding="utf-8")), file)
    tree[LAID_OVER] = list(names)
    new = StringIO()
    round_trip.dump(tree, new)
    return new.getvalue()


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Lay overlays/NAME.yaml, in the order of the names, over params.yaml; without a NAME, say which there are.

    `git checkout params.yaml` goes back.
    """
    with exit_on_user_error("params"):
        laid_over = load_params(paths.PARAMS).laid_over
        old = paths.PARAMS.read_text(encoding="utf-8")
        if not names:
            for file in sorted(paths.OVERLAYS.glob("*.yaml")):
                about = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
                click.echo(f"{'*' if file.stem in laid_over else ' '} {file.stem:<16} {about}")
            return
        new = with_overlays(old, names)
        parse_params(new, paths.PARAMS)
        write_atomically(paths.PARAMS, new.encode())
        before, after = (dict(flatten(yaml.safe_load(text))) for text in (old, new))
        for key in dict.fromkeys([*before, *after]):
            if before.get(key, ...) != after.get(key, ...):
                click.echo(f"{key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}")
        click.echo(f"{paths.PARAMS}: {', '.join(names)} laid over it")


if __name__ == "__main__":
    main()
