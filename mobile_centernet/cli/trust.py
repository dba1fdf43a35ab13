"""`mobile-centernet trust`: who may say what devices run (docs/trust.md)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_centernet.outside import typed
from mobile_centernet.tables import text_table

if TYPE_CHECKING:
    from mobile_centernet.trust.repository import Repository

WARN_DAYS = {"root": 60, "targets": 60, "snapshot": 5, "timestamp": 2}
"""Days before an expiry of which operators are told; 30 of the others."""


def _opened(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command: where the repository and the keys are, by default as params.yaml says."""
    command = click.option(
        "--key", "keys", multiple=True, metavar="ROLE=PLACE", help="A private key besides those of params.yaml."
    )(command)
    command = click.option(
        "--root",
        type=click.Path(path_type=Path),
        help="root.json, which devices are installed with.  [default: as params.yaml]",
    )(command)
    command = click.option(
        "--repository", metavar="FOLDER_OR_S3", help="Folder or s3:// address.  [default: as params.yaml]"
    )(command)
    return click.option(
        "--params",
        type=click.Path(path_type=Path),
        default="params.yaml",
        show_default=True,
        help="Settings: section trust.",
    )(command)


@click.group()
def trust() -> None:
    """Keys and signatures that decide what devices run: a repository of The Update Framework (docs/trust.md)."""


@trust.command()
@_opened
@click.option(
    "--public",
    multiple=True,
    metavar="ROLE=FILE",
    help="Public key (*.pub) of a private key kept elsewhere (KMS, HSM).",
)
@click.option("--threshold", "thresholds", multiple=True, metavar="ROLE=NUMBER", help="Signatures that a role needs.")
@click.option("--encrypt", is_flag=True, help="Encrypt new key files; asks for a passphrase.")
def init(public: Sequence[str], thresholds: Sequence[str], encrypt: bool, **place: Any) -> None:
    """Create the repository, root.json for devices, and those key files of params.yaml that do not exist."""
    from mobile_centernet.trust.ceremony import init as begin
    from mobile_centernet.trust.keys import KEY_SUFFIX, generate_key, public_key
    from mobile_centernet.trust.layout import LIFE_DAYS

    repository = _repository(**place)
    passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True) if encrypt else None
    given = [_pair(text) for text in public]
    keys = {role: [public_key(file) for named, file in given if named == role] for role in LIFE_DAYS}
    for role, places in repository.keys.places.items():
        for named in places if not keys[role] else ():
            if named.endswith(KEY_SUFFIX) and not Path(named).exists():
                generate_key(Path(named), passphrase)
                click.echo(f"{named}: the new private key of {role}")
            keys[role].append(public_key(named))
    least = dict(map(_pair, thresholds))
    if wrong := [number for number in least.values() if not (number.isdecimal() and 0 < int(number) < 10)]:
        raise click.BadParameter(f"expected ROLE=1 to 9, found {wrong[0]}", param_hint="--threshold")
    begin(repository, repository.root, keys, {role: int(number) for role, number in least.items()})
    click.echo(f"{repository.root}: the root that devices are installed with; keep it in git")
    click.echo("move the keys of root, targets and champion to where they belong: no two of root on one machine")


@trust.command()
@_opened
@click.argument("staged", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--approve-by", metavar="NAME", help="Approver recorded in a statement that nobody has signed yet.")
@click.option("--yes", is_flag=True, help="Sign without asking for confirmation.")
def sign(staged: Path, approve_by: str | None, yes: bool, **place: Any) -> None:
    """Sign the document STAGED; publish it when it has enough signatures and the publishing keys are here."""
    from dataclasses import replace

    from mobile_centernet.files import write_atomically
    from mobile_centernet.trust.ceremony import Staged
    from mobile_centernet.trust.errors import TrustError

    repository = _repository(**place)
    document = Staged.parse(staged.read_bytes())
    if approve_by:
        if document.statement is None or document.metadata.signatures:
            raise TrustError(f"{staged}: expected a statement that nobody has signed yet, found another document")
        document.statement = replace(document.statement, approver=approve_by)
        document.metadata = repository.stage_statement(repository.state(), document.statement)
    subject = document.statement.encode().decode() if document.statement else str(document.metadata.signed.to_dict())
    click.echo(f"{document.role}, version {document.metadata.signed.version}:\n{subject}")
    if not yes:
        click.confirm("Sign it?", abort=True)
    missing = document.sign(repository)
    write_atomically(staged, document.encode())
    if missing:
        raise TrustError(f"{staged}: signed with what is at hand; {missing}")
    document.publish(repository)
    staged.unlink()
    click.echo("signed and published")


@trust.command()
@_opened
@click.argument("role")
@click.option("--old", multiple=True, metavar="KEY_ID", help="Key to remove: the first characters of its id.")
@click.option("--new", multiple=True, metavar="PLACE", help="Key to add: an existing key, or a *.key file to create.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="root.staged.json",
    show_default=True,
    help="Document for further signers.",
)
def rotate(**options: Any) -> None:
    """Replace keys of ROLE; devices keep working without any change."""
    _change(revoke=False, **options)


@trust.command()
@_opened
@click.argument("role")
@click.argument("old", nargs=-1, required=True, metavar="KEY_ID...")
@click.option("--new", multiple=True, metavar="PLACE", help="Replacement key.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="root.staged.json",
    show_default=True,
    help="Document for further signers.",
)
def revoke(**options: Any) -> None:
    """Remove compromised keys from ROLE. For `bundles`, releases that no channel names are removed, too."""
    _change(revoke=True, **options)


@trust.command()
@_opened
@click.option("--new", multiple=True, required=True, metavar="ROLE=PLACE", help="New keys of snapshot and timestamp.")
def recover(new: Sequence[str], **place: Any) -> None:
    """Restart version numbers after an attacker raised them to lock publishers out."""
    from mobile_centernet.trust.ceremony import recover as begin_again

    pairs = [_pair(text) for text in new]
    keys = {role: _new_key(named) for role, named in pairs}
    begin_again(_repository(**{**place, "keys": [*place["keys"], *new]}), keys)
    click.echo("recovered: every device takes what is published now")


@trust.command()
@_opened
@click.option("--expired", is_flag=True, help="Accept expired metadata on a machine that has seen none before.")
def refresh(expired: bool, **place: Any) -> None:
    """Renew expiring metadata of every role whose key is here; run it daily. Warns days before an expiry."""
    repository = _repository(**place)
    click.echo(f"renewed: {', '.join(repository.refresh(expired=expired))}")
    _warn(repository)


@trust.command()
@_opened
def show(**place: Any) -> None:
    """Roles, keys, versions and expiry, and what each channel's devices run."""
    from mobile_centernet.trust.layout import CHANNELS

    repository = _repository(**place)
    state = repository.state()
    rows = [("role", "version", "expires, UTC", "must sign", "keys")]
    for role, metadata in state.roles.items():
        named = state.delegator(role).get_delegated_role(role)
        ids = ", ".join(keyid[:12] for keyid in named.keyids)
        signed = metadata.signed
        rows.append((role, str(signed.version), f"{signed.expires:%Y-%m-%d %H:%M}", str(named.threshold), ids))
    click.echo(text_table(rows, "<"))
    for channel in CHANNELS:
        for statement, _ in repository.statements(state, channel):
            share = "" if statement.share == 1 else f", {statement.share:.0%} of the devices"
            click.echo(
                f"{channel} {statement.number}: {statement.model} {statement.version}, manifest "
                f"{statement.manifest}, agreed by {statement.approver or 'the gate alone'}{share}"
            )
    _warn(repository)


def _warn(repository: "Repository") -> None:
    for role, metadata in repository.state().roles.items():
        left = (metadata.signed.expires - datetime.now(timezone.utc)).total_seconds() / 86400
        if left < WARN_DAYS.get(role, 30):
            click.echo(f"warning: {role} expires in {left:.1f} days: devices stop taking anything new then", err=True)


def _change(role: str, old: Sequence[str], new: Sequence[str], out: Path, revoke: bool, **place: Any) -> None:
    from mobile_centernet.files import write_atomically
    from mobile_centernet.trust.ceremony import change_key

    come = [_new_key(named) for named in new]
    repository = _repository(**{**place, "keys": [*place["keys"], *(f"{role}={named}" for named in new)]})
    staged = change_key(repository, role, old, come, revoke=revoke)
    if staged is None:
        click.echo(f"{role}: published; name the new key's place in params.yaml")
        return
    write_atomically(out, staged.encode())
    click.echo(f"{out}: too few of root's keys are at hand; the others sign it: mobile-centernet trust sign {out}")


def _new_key(place: str) -> Any:
    """The public half; a file that is not there is made."""
    from mobile_centernet.trust.keys import KEY_SUFFIX, generate_key, public_key

    return generate_key(Path(place)) if place.endswith(KEY_SUFFIX) and not Path(place).exists() else public_key(place)


def _repository(params: Path, repository: str | None, root: Path | None, keys: Sequence[str]) -> "Repository":
    """As the options say, and where they do not as the section `trust` of params.yaml does."""
    from mobile_centernet.trust.errors import TrustError
    from mobile_centernet.trust.repository import open_repository

    section: Any = {}
    named: Mapping[str, Sequence[str]] = {}
    if params.exists():
        import yaml  # the pipeline has it; a machine that only signs may do with options

        try:
            section = typed((yaml.safe_load(params.read_bytes()) or {}).get("trust", {}), dict, "trust")
            named = typed(section.get("keys", {}), Mapping[str, tuple[str, ...]], "trust.keys")
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise TrustError(f"{params}: expected the pipeline's settings, found none ({error})") from error
    address = repository or section.get("repository")
    if not address:
        raise TrustError(f"{params}: trust.repository: expected a folder or s3://BUCKET/FOLDER, found none")
    places = {role: [*found] for role, found in named.items()}
    for role, place in map(_pair, keys):
        places.setdefault(role, []).append(place)
    return open_repository(str(address), root or Path(section.get("root", "trust/root.json")), places)


def _pair(text: str) -> tuple[str, str]:
    from mobile_centernet.trust.errors import TrustError
    from mobile_centernet.trust.layout import LIFE_DAYS

    role, equals, value = text.partition("=")
    if not equals or role not in LIFE_DAYS:
        raise TrustError(f"expected ROLE=... with a role of {', '.join(LIFE_DAYS)}, found {text!r}")
    return role, value
