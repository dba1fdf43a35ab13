"""`python -m tests.helpers.harvest_and_send SETTINGS FIRST AT` harvests and sends frames; killed at the AT-th line.

Lines are those of the harvester, the spool and the sender, in all threads. Prints each frame's number once it is on the
disk, at last how many lines there were.
"""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from mobile_centernet.agent import harvest, upload
from mobile_centernet.agent.config import load_config
from mobile_centernet.errors import UserError
from mobile_centernet.field import spool
from tests.helpers.harvests import LIVE, NOON, found, frame

TRACED = {harvest.__file__, upload.__file__, spool.__file__}
DOUBTFUL = found(("vehicle", 0.3, 40, 40, 80, 72))


def main() -> None:
    logging.disable()
    config, first, at = load_config(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    passed = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            passed += 1
            if passed == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    release = SimpleNamespace(digest="d" * 64, manifest=SimpleNamespace(thresholds=LIVE.release.manifest.thresholds))
    with harvest.Harvester(config, SimpleNamespace(release=release)) as harvester:  # type: ignore[arg-type]
        for number in range(first, first + 4):
            release.manifest.version = str(number)  # so that its record tells which one it is
            harvester.offer(frame(number, 48, 80), DOUBTFUL, at=NOON + number)
            harvester.flush()
            print(number, flush=True)
    with suppress(UserError):
        upload.FrameSender(config).send()
    sys.settrace(None)
    print("lines", passed, flush=True)


if __name__ == "__main__":
    main()
