"""`mobile-centernet predict`: images, a video or a camera in; the same with boxes, and lists of detections, out."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import click
import cv2
from tqdm import tqdm

from mobile_centernet.cli.media import Video, open_media
from mobile_centernet.cli.options import MODEL_HELP, device_option
from mobile_centernet.cli.outputs import (
    SOME_FAILED,
    Failure,
    VideoWriter,
    counted,
    make_writable,
    save_detections,
    save_image,
)
from mobile_centernet.detections import Detections
from mobile_centernet.errors import UserError, printable, without_password
from mobile_centernet.inference.load import open_model
from mobile_centernet.reports.drawing import draw_boxes

# Smaller images are drawn enlarged: names would not fit into their boxes.
LEAST_WIDTH = 640


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--model", metavar="MODEL", required=True, help=MODEL_HELP)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output folder.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    default=("0.3",),
    show_default=True,
    help="Score threshold: SCORE or CLASS=SCORE; repeatable.",
)
@click.option("--no-drawing", is_flag=True, help="Write detections only, no drawings.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop a video, camera or stream after so many frames.")
@device_option
@click.pass_context
def predict(
    ctx: click.Context,
    sources: Sequence[str],
    model: str,
    out: Path,
    thresholds: Sequence[str],
    no_drawing: bool,
    frames: int | None,
    device: str | None,
) -> None:
    """Draw detections on SOURCE: an image, all below a folder, that a pattern ('day*/*.jpg') matches or that a list
    (.txt, one path per line, relative to it) names, or several of these; or a video file; or live (until Ctrl-C) a
    camera's number, an address (rtsp://, http://) or a GStreamer pipeline.

    OUT/detections.json lists all, results.json is for pycocotools, detections.csv is as the competition wants it.
    Images are turned upright as their EXIF orientation says.
    Exit code 3: some images or frames could not be read, or a live source was lost; that is listed under "errors".
    """
    # What OpenCV and FFmpeg print about broken files, our own error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    media = open_media(sources, out, frames)
    with open_model(model, device=device) as detector:
        least = _thresholds(thresholds, detector.classes)
        make_writable(out)

        drawing: VideoWriter | nullcontext[None] = nullcontext()
        if isinstance(media, Video) and not no_drawing:
            drawing = VideoWriter(out / f"{media.stem}.mp4", media.fps)
        with drawing as video:
            found: list[tuple[str, tuple[int, int], Detections]] = []
            errors: list[Failure] = []
            results = media.detect(detector, errors)
            try:
                for name, image, detections in tqdm(results, "detecting", media.total, unit=media.unit, disable=None):
                    kept = detections.above(least[1])
                    found.append((name, (image.shape[0], image.shape[1]), kept))
                    if no_drawing:
                        continue
                    width = max(image.shape[1], LEAST_WIDTH)
                    drawn = draw_boxes(image, kept.boxes, kept.labels, detector.classes, kept.scores, width=width)
                    if video:
                        video.add(drawn)
                    else:
                        save_image(out / name, drawn)
            except KeyboardInterrupt:
                if not media.is_camera:  # which has no end but this one: what was found until then is kept
                    raise

    if not found and errors:
        raise UserError(f"no {media.unit} could be read, of {len(errors)} tried; first {errors[0]['error']}")
    if not found:
        raise UserError(f"{without_password(' '.join(sources))}: expected at least one {media.unit}, found none")
    save_detections(out, detector, least, found, errors)
    boxes = sum(len(detections.boxes) for _, _, detections in found)
    click.echo(f"{counted(boxes, 'detection')} in {counted(len(found), media.unit)} → {out}")
    if errors:
        names = ", ".join(failure["file_name"] for failure in errors[:3])
        more = ", … (all in detections.json)" if len(errors) > 3 else ""
        click.echo(printable(f"{counted(len(errors), media.unit)} could not be read: {names}{more}"), err=True)
        ctx.exit(SOME_FAILED)


def _thresholds(texts: Sequence[str], classes: Sequence[str]) -> tuple[float, Mapping[str, float]]:
    """That of the classes that have none of their own, and that of each class."""
    default, own = 0.3, {}
    for text in texts:
        name, _, score = text.rpartition("=")
        try:
            value = float(score)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"--threshold: expected a score in 0..1 or CLASS=SCORE, found {text!r}")
        if not name:
            default = value
        elif name in classes:
            own[name] = value
        else:
            raise UserError(f"--threshold: expected one of the model's classes ({', '.join(classes)}), found {name!r}")
    return default, {name: own.get(name, default) for name in classes}
