"""`predict` on videos and cameras, its lists for other readers, thresholds by class, and models of every kind."""

import csv
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from pycocotools.coco import COCO

from mobile_centernet.cli.main import main
from mobile_centernet.data.readers.video import FrameStep, cut_videos
from mobile_centernet.images import read_image
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.variants import build_model
from tests.data.readers.test_video import index_first, write_video
from tests.helpers.arrays import arrays
from tests.helpers.mjpeg import MjpegServer
from tests.helpers.tiny import CLASSES, tiny_detector

FRAMES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), (192, 128))
        cv2.imwrite(str(folder / name), picture)
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "1_40_00.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (192, 128))
    for number in range(FRAMES):
        writer.write(np.full((128, 192, 3), 40 * number, np.uint8))
    writer.release()
    return path


def predict(source: object, model: object, out: Path, *options: object) -> Result:
    arguments = ["predict", source, "--model", model, "--out", out, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def rows(out: Path) -> list[dict]:
    return json.loads((out / "detections.json").read_text())["detections"]


@pytest.mark.parametrize("turn", range(2, 9))
def test_photos_are_looked_at_as_viewers_show_them(model: Path, pictures: Path, tmp_path: Path, turn: int) -> None:
    """The same view, stored turned as phones store it: the same detections, drawn upright."""
    (pictures / "b.png").unlink()
    upright = Image.open(pictures / "a.png")
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]  # Image.Transpose that `turn` undoes
    exif = Image.Exif()
    exif[0x0112] = turn
    (tmp_path / "phone").mkdir()
    upright.transpose(Image.Transpose(back)).save(tmp_path / "phone/a.png", exif=exif)
    for source, out in ((pictures, "out"), (tmp_path / "phone", "turned")):
        assert predict(source, model, tmp_path / out, "--threshold", 0).exit_code == 0
    assert rows(tmp_path / "out") == rows(tmp_path / "turned") != []
    np.testing.assert_array_equal(read_image(tmp_path / "out/a.png"), read_image(tmp_path / "turned/a.png"))
    found = Detector(model)(tmp_path / "phone/a.png")
    for left, right in zip(arrays(found), arrays(Detector(model)(pictures / "a.png")), strict=True):
        np.testing.assert_array_equal(left, right)


def test_pictures_of_all_kinds_in_any_case_are_read_and_litter_is_not(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    with Image.open(pictures / "a.png") as view:
        for name in ("c.bmp", "d.TIF", "e.tiff", "f.WebP", "g.jpg", "h.JPEG"):
            view.save(pictures / name)
    (pictures / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(99))
    (pictures / "__MACOSX").mkdir()
    (pictures / "__MACOSX/a.png").write_bytes(b"")
    result = predict(pictures, model, tmp_path / "out", "--threshold", 0)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out/detections.json").read_text())
    names = ["a.png", "b.png", "c.bmp", "d.TIF", "e.tiff", "f.WebP", "g.jpg", "h.JPEG"]
    assert [image["file_name"] for image in document["images"]] == names
    assert all((tmp_path / "out" / name).is_file() for name in names)


def test_videos_beside_images_are_named_and_not_looked_at(
    model: Path, pictures: Path, video: Path, tmp_path: Path
) -> None:
    (pictures / "drive.AVI").symlink_to(video)
    (pictures / "gone").symlink_to(tmp_path / "nowhere")
    result = predict(pictures, model, tmp_path / "out")
    assert result.exit_code == 0 and "in 2 images" in result.stdout
    assert "not looked at: 1 video, each of which is a SOURCE of its own: drive.AVI\n" in result.stderr
    assert "not looked at: gone: expected a link to a file or folder, found No such file" in result.stderr
    for name in ("a.png", "b.png"):
        (pictures / name).unlink()
    assert "found 1 video, each of which is a SOURCE of its own" in refused(predict(pictures, model, tmp_path / "out"))


def test_pycocotools_reads_the_results(model: Path, pictures: Path, tmp_path: Path) -> None:
    assert predict(pictures, model, tmp_path / "out", "--threshold", 0).exit_code == 0
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    truth = COCO()
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    truth.dataset = {"images": document["images"], "categories": categories, "annotations": []}
    with redirect_stdout(io.StringIO()):
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "out" / "results.json"))
    boxes, scores, labels = arrays(Detector(model).detect(read_image(pictures / "b.png")))
    found = loaded.loadAnns(loaded.getAnnIds(imgIds=[2]))
    assert [row["score"] for row in found] == scores.astype(float).tolist()
    assert [row["category_id"] for row in found] == (labels + 1).tolist()
    np.testing.assert_allclose([row["bbox"][:2] for row in found], boxes[:, :2])
    np.testing.assert_allclose([row["bbox"][2:] for row in found], boxes[:, 2:] - boxes[:, :2])


def test_the_competitions_csv(model: Path, pictures: Path, tmp_path: Path) -> None:
    predict(pictures, model, tmp_path / "out", "--threshold", 0, "--no-drawing")
    assert not (tmp_path / "out" / "a.png").exists()
    text = (tmp_path / "out" / "detections.csv").read_text()
    assert text.splitlines()[0] == "image_filename,label_id,x,y,w,h,confidence"
    found = list(csv.DictReader(io.StringIO(text)))
    expected = rows(tmp_path / "out")
    assert len(found) == len(expected) == 60
    for line, row in zip(found, expected, strict=True):
        assert (line["image_filename"], int(line["label_id"])) == (row["file_name"], row["category_id"])
        assert CLASSES[int(line["label_id"]) - 1] == row["category"]
        assert [float(line[key]) for key in "xywh"] == row["bbox"]
        assert float(line["confidence"]) == row["score"]


def test_a_file_name_is_no_formula(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (pictures / "a.png").rename(tmp_path / "in" / "=cmd|'C calc'!A0.png")
    predict(tmp_path / "in", model, tmp_path / "out", "--threshold", 0, "--no-drawing")
    lines = (tmp_path / "out" / "detections.csv").read_text().splitlines()[1:]
    assert lines and all(line.startswith("'=cmd") for line in lines)


def test_thresholds_by_class(model: Path, pictures: Path, tmp_path: Path) -> None:
    predict(pictures, model, tmp_path / "all", "--threshold", 0)
    everything = rows(tmp_path / "all")
    middle = sorted(row["score"] for row in everything if row["category"] == "piéton")[5]
    predict(pictures, model, tmp_path / "some", "--threshold", 0, "--threshold", f"piéton={middle}")
    expected = [row for row in everything if row["category"] == "vehicle" or row["score"] >= middle]
    assert rows(tmp_path / "some") == expected and 0 < len(expected) < len(everything)
    document = json.loads((tmp_path / "some" / "detections.json").read_text())
    assert document["thresholds"] == {"vehicle": 0.0, "piéton": middle}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1.5", "a score in 0..1"), ("nan", "a score in 0..1"), ("x=", "CLASS=SCORE"), ("tram=0.2", "vehicle, piéton")],
)
def test_bad_thresholds(model: Path, pictures: Path, tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(predict(pictures, model, tmp_path / "out", "--threshold", text))
    assert not (tmp_path / "out").exists()


def test_a_video_comes_out_as_a_video(model: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = predict(video, model, out, "--threshold", 0)
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads((out / "detections.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [f"1_40_00.avi_{i:05d}.jpg" for i in range(FRAMES)]
    assert {path.name for path in out.iterdir()} == {"1_40_00.mp4", "detections.csv", "detections.json", "results.json"}
    capture = cv2.VideoCapture(str(out / "1_40_00.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    frames = [capture.read()[1] for _ in range(FRAMES)]
    assert not capture.read()[0] and frames[0].shape == (426, 640, 3)
    assert (frames[-1].astype(int) - frames[0]).mean() > 60  # the source grows brighter


def test_a_video_may_be_stopped_early(model: Path, video: Path, tmp_path: Path) -> None:
    assert "in 2 frames" in predict(video, model, tmp_path / "out", "--frames", 2).stdout


def test_a_video_that_breaks_off(model: Path, video: Path, tmp_path: Path) -> None:
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 9 // 10])  # its header, which stays, announces all frames
    result = predict(video, model, tmp_path / "out")
    assert result.exit_code == 3 and "1 frame could not be read" in result.stderr
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    read = len(document["images"])
    assert 0 < read < FRAMES
    assert f"expected {FRAMES} frames, found {read} that decode" in document["errors"][0]["error"]
    assert document["errors"][0]["file_name"] == f"1_40_00.avi_{read:05d}.jpg"


def test_a_frame_that_is_cut_off_is_no_frame_as_for_the_pipeline(model: Path, tmp_path: Path) -> None:
    path = index_first(write_video(tmp_path / "in/cut.mp4", 30))
    path.write_bytes(path.read_bytes()[:-400])
    result = predict(path, model, tmp_path / "out", "--no-drawing")
    assert result.exit_code == 3
    document = json.loads((tmp_path / "out/detections.json").read_text())
    names = [image["file_name"] for image in document["images"]]
    cut_videos(tmp_path / "in", tmp_path / "frames", FrameStep(), progress=False)
    assert names == sorted(each.name for each in (tmp_path / "frames").rglob("*.jpg"))
    half, rest = document["errors"]
    assert half["file_name"] == f"cut.mp4_{len(names):05d}.jpg" and "found one that is cut off" in half["error"]
    assert "expected 30 frames" in rest["error"]


def test_a_stream_that_ends_is_an_error_and_what_it_showed_stays(model: Path, tmp_path: Path) -> None:
    with MjpegServer(frames=8, login="guard:secret") as server:
        result = predict(server.url("guard:secret"), model, tmp_path / "out")
    assert result.exit_code == 3 and "1 frame could not be read" in result.stderr
    document = json.loads((tmp_path / "out/detections.json").read_text())
    (lost,) = document["errors"]
    assert "expected another frame of a live source, found its end" in lost["error"]
    names = [image["file_name"] for image in document["images"]]
    assert names and all(re.fullmatch(r"127\.0\.0\.1_\d+_cam_1_0000\d\.jpg", name) for name in names)
    assert len(list((tmp_path / "out").glob("127.0.0.1_*_cam_1.mp4"))) == 1
    written = result.output + "".join(
        f"{path.name} {path.read_bytes()}" for path in (tmp_path / "out").iterdir() if path.suffix != ".mp4"
    )
    assert not re.search("guard|secret|hidden", written)


def test_a_stream_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with MjpegServer(frames=8, closed=(0,)) as server:
        message = refused(predict(server.url("guard:secret"), model, tmp_path / "out"))
    assert "http://...@127.0.0.1:" in message and "expected a camera or a video, found none that opens" in message
    assert not re.search("guard|secret|hidden", message)


def names_of(out: Path) -> list[str]:
    return [image["file_name"] for image in json.loads((out / "detections.json").read_text())["images"]]


def test_patterns_and_lists_of_images(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "night").mkdir()
    (pictures / "b.png").rename(pictures / "night/b.png")
    (pictures / "labels.json").write_text("{}")
    (tmp_path / "lists").mkdir()
    listed = tmp_path / "lists/night.txt"
    listed.write_text("\ufeff# what to look at\n../pictures/night/b.png\r\n\n../pictures/gone.png\n", encoding="utf-8")
    for number, (source, expected) in enumerate(
        (
            (f"{pictures}/*", ["a.png", "night/b.png"]),
            (f"{pictures}/**/[ab].png", ["a.png", "night/b.png"]),
            (f"{pictures}/?.png", ["a.png"]),
        )
    ):
        result = predict(source, model, tmp_path / str(number))
        assert result.exit_code == 0 and names_of(tmp_path / str(number)) == expected
        assert all((tmp_path / str(number) / name).is_file() for name in expected)
    result = predict(listed, model, tmp_path / "listed")
    assert result.exit_code == 3 and names_of(tmp_path / "listed") == ["night/b.png"]
    errors = json.loads((tmp_path / "listed/detections.json").read_text())["errors"]
    assert [failure["file_name"] for failure in errors] == ["gone.png"]


def test_several_sources_are_one_set_of_images(model: Path, pictures: Path, video: Path, tmp_path: Path) -> None:
    result = predict(pictures / "b.png", model, tmp_path / "out", pictures, video)
    assert result.exit_code == 0 and "1 video, each of which is a SOURCE of its own" in result.stderr
    assert sorted(names_of(tmp_path / "out")) == ["a.png", "b.png"]
    assert "expected an image or a folder" in refused(predict(pictures, model, tmp_path / "no", "rtsp://a:pw@h/1"))
    assert "found 1 video," in refused(predict(video, model, tmp_path / "no", str(video) + "*", video))


def test_lists_and_patterns_of_nothing(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe4.png\n")
    for name, expected in (
        ("labels.txt", "found no path of one in 1 line"),
        ("empty.txt", "found no path of one in 0 lines"),
        ("latin.txt", "expected a text in UTF-8"),
        ("*.gif", "expected an image or a folder"),
        ("*.txt", "expected images (.jpg"),
    ):
        assert expected in refused(predict(tmp_path / name, model, tmp_path / "out"))


def test_the_device_that_was_asked_for(model: Path, pictures: Path, tmp_path: Path) -> None:
    assert predict(pictures, model, tmp_path / "out", "--device", "cpu").exit_code == 0
    result = predict(pictures, model, tmp_path / "out", "--device", "gpu")
    assert result.exit_code == 2 and "expected cpu, cuda or cuda:N, found 'gpu'" in result.stderr
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        message = refused(predict(pictures, model, tmp_path / "out", "--device", "cuda:1"))
        assert "model.onnx: expected a provider that is here (cpu), found 'cuda:1'" in message
    if not torch.cuda.is_available():
        path = tmp_path / "model.safetensors"
        save_model(build_model("hrnet_w16_lite", 2), path, classes=CLASSES, input_size=(64, 96))
        message = refused(predict(pictures, path, tmp_path / "out", "--device", "cuda"))
        assert "expected the device cuda, found 0 GPUs" in message


def test_sources_that_do_not_open(model: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 10)
    message = refused(predict(noise, model, tmp_path / "out"))
    assert "noise.mp4: expected a video, found 2560 bytes that do not open as one" in message
    assert "97: expected a camera" in refused(predict(97, model, tmp_path / "out"))


def test_a_folder_that_cannot_be_written(model: Path, video: Path) -> None:
    assert "expected a folder to write to" in refused(predict(video, model, video / "out"))
    assert "would be overwritten" in refused(predict(video, model, video.parent))


def test_a_checkpoint(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(build_model("hrnet_w16_lite", 2), path, classes=CLASSES, input_size=(64, 96))
    assert predict(pictures, path, tmp_path / "out", "--threshold", 0).exit_code == 0
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert (document["model"], document["classes"]) == ("model.safetensors", list(CLASSES))
    assert len(document["detections"]) == 200
    path.write_bytes(path.read_bytes()[:-100])
    assert "expected a complete safetensors file" in refused(predict(pictures, path, tmp_path / "again"))
    assert "expected a checkpoint, found nothing" in refused(predict(pictures, "no.safetensors", tmp_path / "again"))


def test_an_engine_without_tensorrt(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"engine")
    message = refused(predict(pictures, tmp_path / "model.engine", tmp_path / "out"))
    assert "expected TensorRT's Python package" in message or "expected a CUDA device" in message


def test_an_address_is_resolved_by_whoever_knows_it(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real installed package, as importlib.metadata finds it."""
    assert "knows addresses of store:/" in refused(predict(pictures, "store:/street@champion", tmp_path / "out"))
    packages = tmp_path / "packages"
    (packages / "store_plugin-1.0.dist-info").mkdir(parents=True)
    (packages / "store_plugin-1.0.dist-info" / "METADATA").write_text("Name: store-plugin\nVersion: 1.0\n")
    (packages / "store_plugin-1.0.dist-info" / "entry_points.txt").write_text(
        "[mobile_centernet.models]\nstore = store_plugin:fetch\n"
    )
    (packages / "store_plugin.py").write_text(
        "import shutil\ndef fetch(uri, folder):\n"
        "    assert uri == 'store:/street@champion'\n"
        f"    return shutil.copy({str(model)!r}, folder)\n"
    )
    monkeypatch.syspath_prepend(packages)
    assert predict(pictures, "store:/street@champion", tmp_path / "out").exit_code == 0
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert document["model"] == "store:/street@champion"


def test_dashcam_clips(model: Path, drives: list[Path], tmp_path: Path) -> None:
    for drive in drives:
        assert "in 3 frames" in predict(drive, model, tmp_path / drive.stem, "--frames", 3).stdout
