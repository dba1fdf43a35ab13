"""What makes a bundle unusable."""

from mobile_centernet.errors import UserError


class BundleError(UserError):
    """A bundle or a release folder that cannot be used; the message is one sentence."""


class StorageError(BundleError):
    """The disk did not let a bundle or a release be read or written, which says nothing about its contents."""
