"""What goes wrong on a device, besides bundles that cannot be used."""

from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.errors import UserError


class ConfigError(UserError):
    """The agent's settings cannot be used."""


class LockedError(UserError):
    """Another agent works in the same folder."""


class TransferError(UserError):
    """The server did not answer, or not with what was asked for; later it may."""


class NothingOfferedError(TransferError):
    """The server answers, and offers no release: nobody has signed a statement of the channel."""


class RottenError(StorageError):
    """A release that was whole when it was unpacked and is not any more."""


class SelfTestError(UserError):
    """This device cannot run the release: its engine or its detections are not as they must be."""


class SlowSelfTestError(SelfTestError):
    """The self-test took too long, which may be the moment's fault: a hot chip, a busy one."""


class SelfTestInterruptedError(UserError):
    """The self-test did not come to an end, which says nothing about the release."""


class StoppedError(Exception):
    """The agent was asked to end; a trial that this cuts off is gone back from at the next start."""


class RollbackRequestedError(Exception):
    """An operator asked for the release before, which comes before whatever is being done."""
