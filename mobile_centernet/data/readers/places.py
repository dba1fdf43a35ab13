"""What the path of an image says: its name, split and video; and which image the path in a label means."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import filterfalse, takewhile
from operator import sub
from typing import NamedTuple
from urllib.parse import unquote

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, path_parts

SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": """train training trainset trainval trn trainings trainingsdaten entrenamiento entrainement
            apprentissage treino treinamento addestramento trening treningowy traning opleiding egitim trenovaci
            antrenare koulutus 訓練 训练 学習 훈련 학습 обуч трениров тренуван تدريب εκπαιδευση""",
        "val": """val valid validate validation vali valset minival dev devel eval evaluation validierung
            validierungsdaten evaluacion avaliacao validacion validacao validazione validatie walidacja walidacyjny
            validering dogrulama validacni validare validointi
            驗證 验证 検証 評価 검증 평가 валидац валідац تحقق επικυρωση""",
        "test": """test testing testset testdev tests tst testdaten prueba pruebas teste testes testowy toets
            testovaci testare testi 測試 测试 テスト 테스트 тест اختبار δοκιμη""",
        "unlabelled": "unlabelled unlabeled",
    }.items()
    for word in words.split()
}
"""What data sets call their splits, in lower case, without accents. Nothing is known about frames of the last one."""
LEFT_TO_TRAIN = frozenset({"", "train", "unlabelled"})
"""Splits whose videos are training footage; every other one is set aside by its source."""
CONTAINERS = frozenset({
    "100k", "10k", "all", "ann", "anns", "annotation", "annotations", "bdd100k", "data", "det_20", "det", "frames",
    "gt", "image", "images", "imagesets", "img", "imgs", "jpegimages", "jpgs", "json", "jsons", "label", "labels",
    "photos", "pictures", "track", "txt", "txts", "xml", "xmls", "box_track_20",
})  # fmt: skip
"""Folders that tell nothing about the images in them, in lower case."""
BESIDE_SPLITS = frozenset({
    "annotation", "annotations", "data", "dataset", "frames", "image", "images", "imgs", "label", "labels", "list",
    "part", "photos", "private", "public", "samples", "set", "split", "subset",
})  # fmt: skip
"""What folders of splits are called besides (`Training Set`, `val_images`), in lower case."""
FRAMES_FOLDER = "jpegimages"
CLIP_AND_FRAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{8}(-\d+)?")
"""BDD100K's names, which no two frames share."""
_CLIPS = re.compile(rf"(?:{CLIP_AND_FRAME.pattern.replace('(', '(?:')}(?:\n|$))*")

COUNTED = frozenset({
    "", "dsc", "dscf", "dscn", "gopr", "imag", "image", "images", "img", "p", "photo", "photos", "pic", "pict", "pxl",
    "picture", "sam",
})  # fmt: skip
"""What cameras and data sets call images that they only count, in lower case."""
CUT = {"": 3, "image": 5, "images": 5, "img": 5}
"""What tools that cut videos call the frames in each video's folder, with the digits that cameras have less of."""
ALBUMS = frozenset({"apple", "batch", "canon", "dataset", "fold", "group", "job", "msdcf", "part", "set", "task"})
"""Folders of photos that are counted again in each, in lower case."""
FASTEST, FEW = 300, 30
"""Frames between two of a video's, at most; and that where there are fewer than five of these."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|" + "|".join(word for word in SPLIT_WORDS if not word.isascii()))
"""Those of other scripts stand inside others, without a mark between them, or have endings."""
_SUFFIXES = "|".join(re.escape(suffix) for suffix in VIDEO_SUFFIXES)
_VIDEO_IN_NAME = re.compile(rf"(.+(?:{_SUFFIXES}))(?![0-9a-z])", re.IGNORECASE)
_FLATTENED = re.compile(rf"(.+(?:{_SUFFIXES}))__(\1(?![0-9a-z]).*)", re.IGNORECASE)
"""What `export_set` makes of `1_40_00.mp4/1_40_00.mp4_00007`."""
_ROBOFLOW = re.compile(r"_(?:jpe?g|png|webp|bmp|tiff?)\.rf\.[0-9A-Za-z]+")
"""Behind the name of each copy of an image."""
_ROBOFLOW_FRAME = re.compile(rf"(.+)_({_SUFFIXES.replace(re.escape('.'), '')})-\d+", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:(.*\D|)(\d{3,})((?:\D\d{0,2})*)|(.*\D|)(\d{1,2})(\D*))", re.DOTALL)
"""Before the last number of three or more digits, or else of fewer; that number; behind it."""
_FIRST_WORD = re.compile(r"(?:coco_)?([^\W\d_]+)\d{0,4}[ _-]", re.IGNORECASE)


class Place(NamedTuple):
    """An image: its path below the root, and what that says. `folders` are those that tell something.

    `stem` is the file's own name without suffix, in Unicode's form NFC.
    """

    path: str
    folders: tuple[str, ...]
    name: str
    video: str
    split: str
    stem: str

    @property
    def folded(self) -> frozenset[str]:
        """The folders, whatever their case."""
        return frozenset(map(str.casefold, self.folders))


def split_of(name: str, *, alone: bool = False) -> str:
    """The split that a file or folder is named after: `bdd100k_labels_images_val` → val; "" where there is none.

    `alone`: other words than `BESIDE_SPLITS` in it say that it is called after something else (`test_drive`).
    """
    if not name.isascii():
        plain = filterfalse(unicodedata.combining, unicodedata.normalize("NFD", name))
        name = unicodedata.normalize("NFC", "".join(plain))
        name = name if name.isascii() else name.lower()
    words = [word.lower() for word in _WORDS.findall(name)]
    if alone and any(word not in SPLIT_WORDS and word not in BESIDE_SPLITS for word in words):
        return ""
    return next(filter(None, map(SPLIT_WORDS.get, words)), "")


class Folder(NamedTuple):
    """What a folder says about the images in it.

    Attributes:
        path: below the root.
        telling: the folders that tell something.
        prefix: of frames' names.
        split: by its words.
        video: that of all its images, None where their names tell it.
    """

    path: str
    telling: tuple[str, ...]
    prefix: str
    split: str
    video: str | None


@cache
def describe_folder(folder: str) -> Folder:
    """What a folder below the root, with `/`, says about the images in it."""
    parts = path_parts(folder)
    lower = [part.lower() for part in parts]
    telling = tuple(part for part in parts if part.lower() not in CONTAINERS)
    below = max((place + 1 for place, part in enumerate(lower) if part in CONTAINERS), default=0)
    inner: list[str] = []
    if FRAMES_FOLDER in lower:
        start = lower.index(FRAMES_FOLDER) + 1
        inner = parts[start + (lower[start : start + 1] == ["all"]) :]
        parts, below = parts[:start], start
    exact = [SPLIT_WORDS[part.lower()] for part in parts if part.lower() in SPLIT_WORDS]
    exact = exact or [split for part in parts if (split := split_of(part, alone=True))]
    candidate = parts[below] if below < len(parts) and not parts[below].lower().endswith(VIDEO_SUFFIXES) else ""
    if exact:
        split = exact[0]
    elif candidate:
        split = split_of(candidate) or re.sub(r"[^\w-]+", "_", candidate)
    else:
        split = next(filter(None, map(split_of, reversed(parts))), "")
    if inner and not split and (split := split_of(inner[0], alone=True)):  # not a video of a set that says its split
        inner = inner[1:]
    own = inner or [part for part in telling if part.lower() not in SPLIT_WORDS]
    video = "/".join(own) if own and own[-1].lower().endswith(VIDEO_SUFFIXES) else None
    return Folder(folder, telling, "".join(f"{part}/" for part in inner), split, video)


def split_of_labels(path: str, *, alone: bool = False) -> str:
    """The split that a label file is called after, or its folder; `alone`: the file is called after its image."""
    folder, _, file = path.rpartition("/")
    of_folder = describe_folder(folder).split
    return ("" if alone else split_of(file)) or (of_folder if of_folder in SPLIT_WORDS.values() else "")


def place_images(paths: Sequence[str], findings: list[Finding]) -> list[Place]:
    """What the paths of a set's images say.

    The split is the folder that is called as one (`SPLIT_WORDS`). Another folder below `images` beside such is a split
    of its own, which does not train, and a finding. Where none is called as a split, folders have nothing to do with
    splits: that is a note. The video is the folder or part of the name that ends like a video file, ivslab's folder,
    the clip in BDD100K's names, or what numbered names share (`_numbered`); otherwise the image is alone. Names are as
    short as they can be and different.
    """
    # Lists, not a loop over images: a set has 100,000 of them.
    cuts = [path.rfind("/") for path in paths]
    parents = [path[:cut] if cut > 0 else "" for path, cut in zip(paths, cuts, strict=True)]
    described = {parent: describe_folder(parent) for parent in set(parents)}
    of_images = [described[parent] for parent in parents]
    stems = [path[cut + 1 : path.rfind(".")] for path, cut in zip(paths, cuts, strict=True)]
    text = "\n".join(stems)
    own_stems = stems if text.isascii() else [unicodedata.normalize("NFC", stem) for stem in stems]
    if "__" in text:
        stems = list(stems)
        for position, stem in enumerate(stems):
            if "__" in stem and (flat := _FLATTENED.fullmatch(stem)):
                of_images[position] = of_images[position]._replace(prefix=f"{flat[1]}/", video=flat[1])
                stems[position] = flat[2]
    folders = set(of_images if "__" in text else described.values())
    # Names are without folders that tell nothing; with all, and with the suffix, where two would be the same.
    names = stems
    if any(folder.prefix for folder in folders):
        names = [folder.prefix + stem for folder, stem in zip(of_images, stems, strict=True)]
    for level in range(3):
        if len(set(names)) == len(names):
            break
        counts, rows = Counter(names), zip(paths, of_images, stems, strict=True)
        longer = (("/".join((*folder.telling, stem)), path.rpartition(".")[0], path) for path, folder, stem in rows)
        names = [each[level] if counts[name] > 1 else name for each, name in zip(longer, names, strict=True)]
    found = {folder.split for folder in folders}
    unknown = found - set(SPLIT_WORDS.values()) - {""}
    of_none = [each for each in folders if not each.split and each.telling]
    of_sets = {each.path for each in folders if not each.split and FRAMES_FOLDER in each.path.lower().split("/")}
    has_splits = bool(found - unknown - {"", "unlabelled"})
    expected = "a folder that is called after a split: train, val or test"
    fates = ("no_split", "a folder of no split: it trains"), ("unknown_split", "another word: it does not train")
    kind, what = fates[has_splits]
    findings += [Finding(kind, Action.IGNORED, word, expected, what) for word in sorted(unknown)]
    strangers: dict[str, str] = {}
    for of_set in sorted(of_sets if has_splits else ()):
        parts = path_parts(of_set)
        parts = parts[: [part.lower() for part in parts].index(FRAMES_FOLDER)]
        strangers[of_set] = re.sub(r"[^\w-]+", "_", parts[-1]) if parts else "root"
    for folder in of_none if has_splits else ():
        strangers.setdefault(folder.path, re.sub(r"[^\w-]+", "_", folder.telling[0]))
    findings += [Finding(kind, Action.IGNORED, word, expected, what) for word in sorted(set(strangers.values()))]

    if _CLIPS.fullmatch(text) and not any(folder.prefix or folder.video for folder in folders):
        videos = [stem[:8] for stem in stems]
    else:
        videos, alone = [], list[tuple[int, Folder, str]]()
        for folder, stem, name in zip(of_images, stems, names, strict=True):
            video = folder.video
            if video is None and "." in stem and (in_name := _VIDEO_IN_NAME.match(stem)):
                video = folder.prefix + path_parts(in_name[1])[0]
            elif video is None and folder.prefix:
                video = folder.prefix[:-1]
            elif video is None and (clip := CLIP_AND_FRAME.fullmatch(stem)):
                video = clip[1]
            elif video is None:
                alone.append((len(videos), folder, stem))
            videos.append(name if video is None else video)
        for position, of_several in _numbered(alone, findings).items():
            videos[position] = of_several
    splits = [folder.split for folder in of_images]
    if strangers or unknown:
        changed = {word: "" for word in unknown if not has_splits}
        splits = [changed.get(each.split, strangers.get(each.path, each.split)) for each in of_images]
    if stems and not any(splits) and _FIRST_WORD.match(stems[0]):  # train_0001 beside val_0001
        words = [word[1].lower() if (word := _FIRST_WORD.match(stem)) else "" for stem in stems]
        if len(set(words)) > 1 and all(word in SPLIT_WORDS for word in set(words)):
            splits = [SPLIT_WORDS[word] for word in words]
    rows = zip(paths, [folder.telling for folder in of_images], names, videos, splits, own_stems, strict=True)
    return list(map(partial(tuple.__new__, Place), rows))  # without the Python code of Place's own constructor


def _numbered(alone: Sequence[tuple[int, Folder, str]], findings: list[Finding]) -> dict[int, str]:
    """The videos of images whose names tell none, by position, as far as these belong together all the same.

    Those of one folder are frames of a video where only one number in their names differs, and grows by the same step;
    each such video is a note. Photos that a camera or a data set only counts are not, unless each of several numbered
    folders begins again (`CUT`). Copies of one image with Roboflow's digests in their names belong together, too.
    """
    videos: dict[int, str] = {}
    series: dict[tuple[Folder, str, str], list[tuple[int, int, str]]] = {}
    for position, folder, stem in alone:
        if ".rf." in stem and (plain := _ROBOFLOW.sub("", stem)) != stem:
            frame = _ROBOFLOW_FRAME.fullmatch(plain)
            stem, videos[position] = plain, f"{frame[1]}.{frame[2]}" if frame else plain
        if found := _NUMBERED.fullmatch(stem):
            before, number, behind = filter(lambda part: part is not None, found.groups())
            series.setdefault((folder, before, behind), []).append((int(number), position, stem))
    runs: list[tuple[Folder, tuple[str, ...], str, bool, set[int], list[tuple[int, int, str]]]] = []
    for (folder, before, behind), members in series.items():
        members.sort()
        numbers = sorted({number for number, _, _ in members})
        steps = Counter(map(sub, numbers[1:], numbers))
        step, alike = steps.most_common(1)[0] if steps else (0, 0)
        if not 0 < step <= (FEW if len(numbers) < 5 else FASTEST) or alike < 0.8 * (len(numbers) - 1):
            continue
        words = "".join(filter(str.isalpha, before + behind)).lower()
        digits = max(len(stem) for _, _, stem in members) - len(before + behind)
        own = tuple(part for part in folder.telling if part.lower() not in SPLIT_WORDS)
        is_counted = words in COUNTED or words in SPLIT_WORDS
        if is_counted:
            of_folders = {word.lower() for part in own for word in _WORDS.findall(part)}
            if digits < CUT.get(words, 99) or not any(map(str.isdigit, "".join(own))) or of_folders & ALBUMS:
                continue
        elif digits < 3 and "frame" not in words:
            continue
        name = f"{before.rstrip(' ._-')}{behind}".strip(" ._-")
        runs.append((folder, own, name, is_counted, set(numbers), members))
    folders_of: dict[tuple[str, int], set[tuple[str, ...]]] = {}  # with a frame of that name and number
    for _, own, name, is_counted, counted, _ in runs:
        for number in counted if is_counted else ():
            folders_of.setdefault((name, number), set()).add(own)
    taken: dict[str, set[int]] = {}
    for folder, own, name, is_counted, counted, members in runs:
        if is_counted and all(len(folders_of[name, number]) < 2 for number in counted):
            continue  # no other folder begins again
        video = "_".join(filter(None, (*own, name)))
        if not taken.setdefault(video, set()).isdisjoint(counted):  # each split counts for itself
            video = f"{folder.path.replace('/', '_')}_{name}"
        taken.setdefault(video, set()).update(counted)
        videos |= {position: video for _, position, _ in members}
        found_here = f"{members[0][2]} ... {members[-1][2]}, {len(members)} images: taken for frames of one video"
        findings.append(
            Finding("numbered_frames", Action.IGNORED, video, "a name of the video (or video_from)", found_here)
        )
    return videos


class Match(NamedTuple):
    """Which image a label means: its position, or None and the paths of those it may be."""

    position: int | None
    candidates: tuple[str, ...] = ()


class PathIndex:
    """Finds images by a path that ends as theirs does: never by the name alone where two share it."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        stems = [place.stem for place in places]
        self._last = dict(zip(stems, range(len(stems)), strict=True))  # of each stem
        self._several: dict[str, list[int]] = {}  # of those that several have
        if len(self._last) < len(stems):
            counts = Counter(stems)
            for position, stem in enumerate(stems):
                if counts[stem] > 1:
                    self._several.setdefault(stem, []).append(position)
        self._folded: dict[str, list[int]] = {}

    def find(self, path: str, *, near: str = "", split: str = "", alone: bool = False) -> Match:
        """The image that `path` means.

        Args:
            path: as the label has it: any of the three systems' separators, with or without suffix and folders.
            near: the folder of the label file, which decides between images of one name.
            split: what the label file is called after, likewise.
            alone: the label file is about this image alone, so that it lies where images like this do.
        """
        # Most labels are names without folders that one image has.
        stem = path[:-4]
        position = None if alone or not path.endswith(".jpg") else self._last.get(stem)
        if (
            position is not None
            and stem not in self._several
            and self._places[position].split in ("", split or "train")
        ):
            return tuple.__new__(Match, (position, ()))
        *folders, file = path_parts(path) or [""]
        own, stem, hint = _telling(folders), image_stem(file), set(map(str.casefold, _telling(path_parts(near))))
        found = self._several.get(stem) or [self._last[each] for each in (stem,) if each in self._last]
        if not found and not self._folded:
            for known, position in self._last.items():
                self._folded.setdefault(known.casefold(), []).extend(self._several.get(known, [position]))
        found = found or self._folded.get(stem.casefold(), [])
        if not found and "%" in path and (plain := unquote(path)) != path:  # as in addresses
            return self.find(plain, near=near, split=split, alone=alone)
        places = self._places
        fits: list[int] = []
        for fold in (str, str.casefold):
            shorter = [min(len(own), len(places[each].folders)) for each in found]
            tails = [common_tail(own, places[each].folders, fold) for each in found]
            fits = fits or [each for each, tail, most in zip(found, tails, shorter, strict=True) if tail == most]
        if not CLIP_AND_FRAME.fullmatch(stem):  # a name that others may have: where the label lies may contradict it
            fits = [each for each in fits if not split or places[each].split in ("", "unlabelled", split)]
            if alone and hint and not own:
                fits = [each for each in fits if not places[each].folders or hint & places[each].folded]
        ranks: tuple[Callable[[Place], int], ...] = (
            lambda place: common_tail(own, place.folders, str.casefold),
            lambda place: len(hint & place.folded),
            lambda place: bool(split) and place.split == split,
            lambda place: path_parts(place.path)[-1] == file,
            lambda place: alone and own == place.folders,
        )
        for rank in ranks:
            if len(fits) < 2:
                break
            best = max(rank(places[each]) for each in fits)
            fits = [each for each in fits if rank(places[each]) == best]
        return Match(fits[0] if len(fits) == 1 else None, tuple(places[each].path for each in fits or found))


def image_stem(file: str) -> str:
    """A file name without the suffix of an image."""
    stem, dot, suffix = file.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else file


def _telling(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if part.lower() not in CONTAINERS and part != "..")


def common_tail(one: Sequence[str], other: Sequence[str], fold: Callable[[str], str]) -> int:
    """How many of the last components of two paths are the same, compared as `fold` makes them."""
    same = (fold(a) == fold(b) for a, b in zip(reversed(one), reversed(other), strict=False))
    return sum(1 for _ in takewhile(bool, same))
