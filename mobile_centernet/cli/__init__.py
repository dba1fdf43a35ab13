"""`mobile-centernet`, a command a file."""
