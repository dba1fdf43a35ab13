"""A sample application: draws detections on a video or camera, across every change of releases, without a restart.

    python device_application.py street.mp4 --root /var/lib/mobile-centernet --out drawn.avi

Ends at the end of the video, or with --repeat at SIGTERM or Ctrl-C. Says at which frame each release took over.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.inference.stream import FrameDetections
from mobile_centernet.inference.video import LiveFrames, paced

COLOURS = ((66, 133, 244), (219, 68, 55), (244, 180, 0), (15, 157, 88))  # RGB, by label


@click.command()
@click.argument("source")
@click.option("--root", type=click.Path(path_type=Path), required=True, help="The agent's folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Video to write (.avi).")
@click.option(
    "--settings",
    type=click.Path(path_type=Path),
    help="Settings file of the agent; harvest as it says (docs/field.md).",
)
@click.option("--fps", default=30.0, show_default=True, help="Frames per second.")
@click.option("--repeat", is_flag=True, help="Loop the video.")
def main(source: str, root: Path, out: Path, settings: Path | None, fps: float, repeat: bool) -> None:
    """Detect on SOURCE, a video, a camera's number or an address, with the release that the agent keeps current."""
    stop = threading.Event()
    source_frames = LiveFrames(int(source) if source.isdecimal() else source)

    def end(*_: object) -> None:
        stop.set()
        source_frames.close()  # it may be waiting for a camera that was lost

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    frames = paced(until(stop, source_frames, repeat), fps)
    shown, running = 0, ""
    writer = None
    with LiveDetector(root) as live, ExitStack() as stack:
        harvester = stack.enter_context(Harvester(load_config(settings), live)) if settings else None
        for result in live.detect_stream(frames):
            if harvester:
                harvester.offer(result.image, result.detections)
            manifest = live.release.manifest
            if manifest.version != running:
                running = manifest.version
                click.echo(f"frame {result.index}: version {running}")
            height, width = result.image.shape[:2]
            if writer is None:
                writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
            writer.write(draw(result, manifest))
            shown += 1
    if writer is not None:
        writer.release()
    click.echo(f"{shown} frames drawn to {out}")


def until(stop: threading.Event, source: LiveFrames, repeat: bool) -> Iterator[NDArray[np.uint8]]:
    while not stop.is_set():
        yield from source
        if not repeat:
            return


def draw(result: FrameDetections, manifest: Manifest) -> NDArray[np.uint8]:
    """The frame, BGR as OpenCV writes it, with a box for each detection that is worth showing."""
    drawn = np.ascontiguousarray(result.image)
    shown = result.detections.above(manifest.thresholds)
    for box, score, label in zip(shown.boxes, shown.scores, shown.labels, strict=True):
        left, top, right, bottom = (int(side) for side in box)
        colour = COLOURS[label % len(COLOURS)]
        text = f"{shown.class_names[label]} {score:.2f}"
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, 2)
        cv2.putText(drawn, text, (left, top - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
    return np.asarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), np.uint8)


if __name__ == "__main__":
    main()
