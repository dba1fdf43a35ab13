"""Near-duplicate images, and what decoders warn about."""
