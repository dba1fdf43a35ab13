"""Where the project's log goes. Modules log with `logging.getLogger(__name__)`; only programs call `setup_logging`."""

import logging
import sys
from importlib.util import find_spec


def setup_logging(level: int = logging.INFO) -> None:
    """Send the project's log to stderr: in colour on a terminal, with times and levels in a file or a pipe.

    Args:
        level: the least severe messages to show.
    """
    handler: logging.Handler
    if sys.stderr.isatty() and find_spec("rich"):  # a device has no rich
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    # A module that `python -m` runs is called __main__.
    for name in ("mobile_centernet", "steps", "pipelines", "examples", "__main__"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
