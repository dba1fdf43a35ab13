"""What goes wrong on a device."""

from mobile_centernet.errors import UserError


class BundleError(UserError):
    """A bundle, a release folder, a signature or a key that cannot be used; the message is one sentence."""


class StorageError(BundleError):
    """The disk did not let a bundle or a release be read or written, which says nothing about its contents."""


class RottenError(StorageError):
    """A release that was whole when it was unpacked and is not any more."""


class ConfigError(UserError):
    """The agent's settings cannot be used."""


class TransferError(UserError):
    """The registry did not answer, or not with what was asked for; later it may."""


class NothingOfferedError(TransferError):
    """The registry answers, and offers no release: the alias is gone, or no bundle belongs to its version."""


class ProofError(UserError):
    """This device cannot run the release: its engine, its detections or its latency are not as they must be."""


class LockedError(UserError):
    """Another agent works in the same folder."""


class ProofInterruptedError(UserError):
    """The proof did not come to an end, which says nothing about the release."""
