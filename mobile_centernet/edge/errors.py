"""What goes wrong with bundles and keys."""

from mobile_centernet.errors import UserError


class BundleError(UserError):
    """A bundle, a release folder, a signature or a key that cannot be used; the message is one sentence."""
