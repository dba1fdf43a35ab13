"""What is wrong with a repository, a statement or a key."""

from mobile_centernet.errors import UserError


class TrustError(UserError):
    """Metadata, a statement or a key that cannot be used; the message is one sentence."""
