"""A channel's statement: the one thing that a device must believe in order to change what it runs."""

import json
import math
import re
from dataclasses import asdict, dataclass

from mobile_centernet.outside import parse_object, typed
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.layout import CHANNELS, MAX_STATEMENT, MAX_VERSION, bundle_path

KIND, FORMAT = "mobile-centernet statement", 1
MAX_BUNDLE = 1 << 30
MAX_LISTED = 256

Text = bytes  # the class below has a field of that name

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Statement:
    """What the devices of a channel run. Values that break a rule are a TrustError.

    number:    one more than the statement before; a device takes no smaller one than its last
    bundle:    target path, `bundles/MODEL-VERSION-(12 digits of sha256).tar`; sha256 and bytes are the file's
    manifest:  SHA-256 of the bundle's manifest, which is the release's identity
    version:   the registry's
    gate:      SHA-256 of the gate's decision; None where no gate decided
    approver:  the person who agreed, if one was asked
    share:     of the devices, above 0 and at most 1
    devices:   profiles of the devices that may run it; none named: all
    previous:  SHA-256 of the statement before; None for the first
    withdrawn: manifests that no device shall run any more
    """

    model: str
    channel: str
    number: int
    bundle: str
    sha256: str
    bytes: int
    manifest: str
    version: str
    gate: str | None = None
    approver: str | None = None
    share: float = 1.0
    devices: tuple[str, ...] = ()
    previous: str | None = None
    withdrawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        digests = [self.sha256, self.manifest, *self.withdrawn, self.gate or self.sha256, self.previous or self.sha256]
        is_digest = all(type(each) is str and _SHA256.fullmatch(each) for each in digests)
        words = [self.model, self.version, *self.devices]
        is_word = all(type(each) is str and _WORD.fullmatch(each) for each in words)
        approver = "none" if self.approver is None else self.approver
        for holds, field, expected in (
            (is_digest, "sha256, manifest, gate, previous, withdrawn", "64 hexadecimal digits"),
            (is_word, "model, version, devices", "1 to 100 letters, digits, '.', '_' or '-'"),
            (self.channel in CHANNELS, "channel", " or ".join(CHANNELS)),
            (type(self.number) is int and 0 < self.number < MAX_VERSION, "number", f"1 to {MAX_VERSION - 1}"),
            (type(self.bytes) is int and 0 < self.bytes <= MAX_BUNDLE, "bytes", f"1 to {MAX_BUNDLE}"),
            (type(self.share) is float and math.isfinite(self.share) and 0 < self.share <= 1, "share", "0 to 1"),
            (type(approver) is str and approver.isprintable() and 0 < len(approver) <= 200, "approver", "a name"),
            (max(len(self.devices), len(self.withdrawn)) <= MAX_LISTED, "devices, withdrawn", f"{MAX_LISTED} at most"),
            (self.manifest not in self.withdrawn, "manifest", "one that is not withdrawn"),
        ):
            if not holds:
                found = ", ".join(repr(getattr(self, name)) for name in field.split(", "))
                raise TrustError(f"statement: {field}: expected {expected}, found {found:.500}")
        if self.bundle != (path := bundle_path(self.model, self.version, self.sha256)):
            raise TrustError(f"statement: bundle: expected {path}, found {self.bundle!r:.500}")
        if (self.number == 1) != (self.previous is None):
            raise TrustError(f"statement: number {self.number}: expected `previous` in all but the first")

    def encode(self) -> Text:
        """The one text of this statement."""
        return f"{json.dumps({'kind': KIND, 'format': FORMAT, **asdict(self)}, indent=1, sort_keys=True)}\n".encode()

    @classmethod
    def parse(cls, content: Text) -> "Statement":
        """The inverse of `encode`. Raises TrustError for any text that `encode` never writes."""
        if len(content) > MAX_STATEMENT:
            raise TrustError(f"statement: expected at most {MAX_STATEMENT} bytes, found {len(content)}")
        try:
            document = parse_object(content)
            if (found := (document.pop("kind", None), document.pop("format", None))) != (KIND, FORMAT):
                raise ValueError(f"expected a {KIND} of format {FORMAT}, found {found!r:.100}")
            statement: Statement = typed(document, cls)
        except ValueError as error:
            raise TrustError(f"statement: {error}") from error
        if statement.encode() != content:
            raise TrustError(f"statement: expected the form of format {FORMAT}, found another")
        return statement
