"""What each command does; `cli.py` says what each one is called and takes."""
