"""Click programs run in this process, their output left to pytest."""

import click
import pytest


def exit_code(program: click.Command, *arguments: str) -> int:
    """The code with which the program ends."""
    with pytest.raises(SystemExit) as ended:
        program(list(arguments))
    return int(ended.value.code or 0)
