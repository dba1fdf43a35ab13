"""What goes wrong on a device, besides bundles that cannot be used."""

from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.errors import UserError


class ConfigError(UserError):
    """The agent's settings cannot be used."""


class LockedError(UserError):
    """Another agent works in the same folder."""


class TransferError(UserError):
    """The registry did not answer, or not with what was asked for; later it may."""


class NothingOfferedError(TransferError):
    """The registry answers, and offers no release: the alias is gone, or no bundle belongs to its version."""


class RottenError(StorageError):
    """A release that was whole when it was unpacked and is not any more."""


class SelfTestError(UserError):
    """This device cannot run the release: its engine, its detections or its latency are not as they must be."""


class SelfTestInterruptedError(UserError):
    """The self-test did not come to an end, which says nothing about the release."""
