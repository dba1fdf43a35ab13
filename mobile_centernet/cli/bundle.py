"""`mobile-centernet bundle`: makes, checks and shows the file in which a release reaches a device."""

from collections.abc import Sequence
from pathlib import Path

import click

from mobile_centernet.bundle.bundle import verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.tables import text_table

DEFAULT = "default"


@click.group()
def bundle() -> None:
    """Releases for devices: build, verify and inspect the one file that holds a release (docs/bundle.md)."""


@bundle.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Exported .onnx file; repeatable, one per precision.",
)
@click.option(
    "--picture",
    "pictures",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Golden image for the self-test; repeatable.",
)
@click.option("--name", default="mobile-centernet", show_default=True, help="Name of the model.")
@click.option("--version", required=True, help="Version of the model in the registry.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    default=("0.3",),
    show_default=True,
    help="Score threshold: SCORE or CLASS=SCORE; repeatable.",
)
@click.option("--latency", multiple=True, required=True, help="Latency budget per image: MS or PROFILE=MS.")
@click.option("--lineage", multiple=True, metavar="NAME=VALUE", help="Origin, such as git_commit=...; repeatable.")
@click.option("--card", type=click.Path(path_type=Path), help="Model card (markdown).  [default: generated]")
def build(
    out: Path,
    models: Sequence[Path],
    pictures: Sequence[Path],
    name: str,
    version: str,
    thresholds: Sequence[str],
    latency: Sequence[str],
    lineage: Sequence[str],
    card: Path | None,
) -> None:
    """Write the bundle OUT: a --model of each precision, a --picture or more for devices' self-test."""
    from mobile_centernet.bundle.build import build_bundle  # alone among the commands it needs ONNX Runtime

    card_text = None
    if card:
        try:
            card_text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{card}: expected a model card in markdown, but it cannot be read: {error}") from error
    manifest = build_bundle(
        out,
        models,
        name=name,
        version=version,
        pictures=pictures,
        thresholds=_numbers("--threshold", thresholds),
        latency_ms=_numbers("--latency", latency),
        lineage=dict(_pair("--lineage", text) for text in lineage),
        card=card_text,
    )
    click.echo(f"{out}: {_title(manifest)}: {', '.join(manifest.variants)}, {out.stat().st_size / 2**20:.1f} MiB")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--manifest", metavar="SHA256", help="Expected digest of the manifest, from `mobile-centernet trust show`."
)
def verify(path: Path, manifest: str | None) -> None:
    """Check every byte of BUNDLE against its manifest, and the manifest against its digest. Exit code 2: it differs."""
    found = verify_bundle(path, manifest)
    said = "as named" if manifest else f"whole, if this is what was signed: manifest {found.sha256}"
    click.echo(f"{path}: verified: {_title(found)}, {len(found.files)} files, {said}")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect(path: Path, as_json: bool) -> None:
    """Show what BUNDLE holds; this does not verify who made it."""
    manifest = verify_bundle(path)
    if as_json:
        click.echo(manifest.to_json().decode(), nl=False)
        return
    height, width = manifest.input_size
    rows = [
        ("manifest", manifest.sha256),
        ("classes", ", ".join(f"{name} from {manifest.thresholds[name]:g}" for name in manifest.classes)),
        ("input", f"{width}x{height}"),
        ("latency", ", ".join(f"{name} {limit:g} ms" for name, limit in manifest.latency_ms.items())),
        *(("lineage", f"{key} {value}") for key, value in manifest.lineage.items()),
    ]
    files = [(file.sha256, str(file.bytes), name) for name, file in manifest.files.items()]
    click.echo(f"{_title(manifest)} (whole; who vouches for it was not asked)")
    click.echo(text_table(rows, "<"))
    click.echo(text_table(files, "<><"))


def _title(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.version}"


def _numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    """`0.3` stands for all, `bicycle=0.2` for one."""
    numbers = {}
    for text in texts:
        name, value = _pair(option, text) if "=" in text else (DEFAULT, text)
        try:
            numbers[name] = float(value)
        except ValueError as error:
            raise BundleError(f"{option}: expected a number or NAME=NUMBER, found {text!r}") from error
    return numbers


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BundleError(f"{option}: expected NAME=VALUE, found {text!r}")
    return name, value
