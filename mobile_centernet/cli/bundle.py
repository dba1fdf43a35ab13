"""`mobile-centernet bundle`: makes, signs, checks and shows the file in which a release reaches a device."""

from collections.abc import Sequence
from pathlib import Path

import click

from mobile_centernet.bundle.bundle import inspect_bundle, sign_bundle, verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, generate_keys, read_private_key
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.tables import text_table

DEFAULT = "default"


@click.group()
def bundle() -> None:
    """Releases for devices: build, sign, verify and inspect the one file that holds a release (docs/edge.md)."""


@bundle.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "models", type=click.Path(path_type=Path), multiple=True, required=True, help="An .onnx file.")
@click.option(
    "--picture", "pictures", type=click.Path(path_type=Path), multiple=True, required=True, help="A golden picture."
)
@click.option("--name", default="mobile-centernet", show_default=True, help="Name of the model.")
@click.option("--version", required=True, help="Version of the model, such as the registry's.")
@click.option("--release", type=click.IntRange(min=1), required=True, help="Release number, larger than any before.")
@click.option(
    "--threshold", "thresholds", multiple=True, default=("0.3",), show_default=True, help="SCORE, CLASS=SCORE."
)
@click.option("--latency", multiple=True, required=True, help="Budget per image: MS or DEVICE_PROFILE=MS.")
@click.option("--lineage", multiple=True, metavar="NAME=VALUE", help="Where it comes from, such as git_commit=...")
@click.option("--card", type=click.Path(path_type=Path), help="Model card in markdown; one is written otherwise.")
def build(
    out: Path,
    models: Sequence[Path],
    pictures: Sequence[Path],
    name: str,
    version: str,
    release: int,
    thresholds: Sequence[str],
    latency: Sequence[str],
    lineage: Sequence[str],
    card: Path | None,
) -> None:
    """Write the unsigned bundle OUT: a --model of each precision, a --picture or more for devices' self-test."""
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
        release=release,
        pictures=pictures,
        thresholds=_numbers("--threshold", thresholds),
        latency_ms=_numbers("--latency", latency),
        lineage=dict(_pair("--lineage", text) for text in lineage),
        card=card_text,
    )
    click.echo(f"{out}: {_title(manifest)}: {', '.join(manifest.variants)}, {out.stat().st_size / 2**20:.1f} MiB")
    click.echo("not signed yet: mobile-centernet bundle sign")


@bundle.command()
@click.argument("path", metavar="KEY", type=click.Path(path_type=Path))
def keygen(path: Path) -> None:
    """Make a signing key: KEY (private, mode 0600) and KEY.pub. Existing files are never overwritten."""
    identity = generate_keys(path)
    click.echo(f"key {identity}")
    click.echo(f"{path}: the private key; keep it off devices and out of repositories")
    click.echo(f"{path}.pub: the public key, for whoever verifies")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="A private key made by keygen.")
def sign(path: Path, key: Path) -> None:
    """Add a signature to BUNDLE. Several keys may sign, so that keys can be changed."""
    click.echo(f"{path}: signed by key {sign_bundle(path, read_private_key(key))}")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--trust", type=click.Path(path_type=Path), multiple=True, required=True, help="A .pub, or a folder.")
@click.option("--revoked", type=click.Path(path_type=Path), help="List of key ids that are trusted no longer.")
def verify(path: Path, trust: Sequence[Path], revoked: Path | None) -> None:
    """Check every byte of BUNDLE against a trusted signature. Exit code 2 when anything is wrong."""
    manifest = verify_bundle(path, TrustedKeys.load(trust, revoked))
    click.echo(f"{path}: verified: {_title(manifest)}, {len(manifest.files)} files, signed by a trusted key")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The manifest as it is.")
def inspect(path: Path, as_json: bool) -> None:
    """Show what is in BUNDLE, whoever signed it."""
    manifest, signers = inspect_bundle(path)
    if as_json:
        click.echo(manifest.to_json().decode(), nl=False)
        return
    height, width = manifest.input_size
    rows = [
        ("signed by", ", ".join(signers) or "nobody"),
        ("classes", ", ".join(f"{name} from {manifest.thresholds[name]:g}" for name in manifest.classes)),
        ("input", f"{width}x{height}"),
        ("latency", ", ".join(f"{name} {limit:g} ms" for name, limit in manifest.latency_ms.items())),
        *(("lineage", f"{key} {value}") for key, value in manifest.lineage.items()),
    ]
    files = [(file.sha256, str(file.bytes), name) for name, file in manifest.files.items()]
    click.echo(f"{_title(manifest)} (who signed it was not checked: mobile-centernet bundle verify)")
    click.echo(text_table(rows, "<"))
    click.echo(text_table(files, "<><"))


def _title(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.version}, release {manifest.release}"


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
