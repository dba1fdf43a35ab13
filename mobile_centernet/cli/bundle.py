"""`mobile-centernet bundle`: makes, signs, checks and shows the file in which a release reaches a device."""

from collections.abc import Sequence
from pathlib import Path

import click

from mobile_centernet.bundle.bundle import inspect_bundle, sign_bundle, verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, generate_keys, read_private_key
from mobile_centernet.bundle.manifest import Manifest

DEFAULT = "default"


def build(
    out: Path,
    models: Sequence[Path],
    pictures: Sequence[Path],
    identity: tuple[str, str, int],
    thresholds: Sequence[str],
    latency: Sequence[str],
    lineage: Sequence[str],
    card: Path | None,
) -> None:
    """Build and say what is in it; `identity` is name, version and release. Raises UserError."""
    from mobile_centernet.bundle.build import build_bundle  # alone among the commands it needs ONNX Runtime

    name, version, release = identity
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
        card=_read_card(card) if card else None,
    )
    click.echo(f"{out}: {_title(manifest)}: {', '.join(manifest.variants)}, {out.stat().st_size / 2**20:.1f} MiB")
    click.echo("not signed yet: mobile-centernet bundle sign")


def keygen(path: Path) -> None:
    """Make a key pair and say what to do with it."""
    identity = generate_keys(path)
    click.echo(f"key {identity}")
    click.echo(f"{path}: the private key; keep it off devices and out of repositories")
    click.echo(f"{path}.pub: the public key, for devices")


def sign(bundle: Path, key: Path) -> None:
    click.echo(f"{bundle}: signed by key {sign_bundle(bundle, read_private_key(key))}")


def verify(bundle: Path, trusted: Sequence[Path], revoked: Path | None) -> None:
    """Silent about nothing: any doubt is a BundleError."""
    manifest = verify_bundle(bundle, TrustedKeys.load(trusted, revoked))
    click.echo(f"{bundle}: verified: {_title(manifest)}, {len(manifest.files)} files, signed by a trusted key")


def inspect(bundle: Path, as_json: bool) -> None:
    """Show a bundle that is whole; whether its signer may be trusted is for `verify` to say."""
    manifest, signers = inspect_bundle(bundle)
    if as_json:
        click.echo(manifest.to_bytes().decode(), nl=False)
        return
    height, width = manifest.input_size
    click.echo(f"{_title(manifest)} (who signed it was not checked: mobile-centernet bundle verify)")
    click.echo(f"signed by   {', '.join(signers) or 'nobody'}")
    click.echo(f"classes     {', '.join(f'{name} from {manifest.thresholds[name]:g}' for name in manifest.classes)}")
    click.echo(f"input       {width}x{height}")
    click.echo(f"latency     {', '.join(f'{name} {limit:g} ms' for name, limit in manifest.latency_ms.items())}")
    for key, value in manifest.lineage.items():
        click.echo(f"lineage     {key} {value}")
    for name, file in manifest.files.items():
        click.echo(f"{file.sha256}  {file.bytes:>10}  {name}")


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


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: expected a model card in markdown, but it cannot be read: {error}") from error
