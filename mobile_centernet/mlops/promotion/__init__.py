"""What decides which version devices run, and writes it down."""
