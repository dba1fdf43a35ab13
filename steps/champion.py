"""fetch_champion: the weights that retraining starts from, where params say so (`distill_student.init: champion`)."""

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import CHAMPION_INIT, Params
from mobile_centernet.mlops.registry.published import PINNED, Channel, trust_repository
from mobile_centernet.mlops.registry.registry import CHAMPION, Registry, RegistryError
from mobile_centernet.mlops.registry.version_files import TRAINING_IDS, WEIGHTS, VersionFiles

logger = logging.getLogger(__name__)


def fetch_champion(params: Params) -> None:
    """Fill data/models/champion: the champion's weights and what it was trained on, or a note that none is wanted.

    The champion is what the signed history says, where there is one, and its files are those that the signed bundle
    pins; the registry is believed only where nothing is signed.
    """
    out = paths.CHAMPION
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if params.distill_student.init != CHAMPION_INIT:
        logger.info("distill_student.init is not champion: nothing to fetch")
        write_json(out / "champion.json", {"version": None})
        return
    registry = Registry(params.register_.name)
    number, pinned = registry.aliases().get(CHAMPION), None
    if repository := trust_repository(params):
        channel = Channel.read(repository, registry.name, CHAMPION)
        number = int(channel.head.version) if channel.head else None
        pinned = channel.judge(number).pinned.get(number) if number else None
    if number is None:
        expected = "a champion to start from: promote a version that was trained with another init first"
        raise RegistryError(f"{registry.name}: distill_student.init expects {expected}, found none")
    version = registry.version(number)
    if repository and pinned is None:
        raise RegistryError(
            f"{registry.name} version {number}: expected a signed bundle that pins its files, found none"
        )
    pinned = pinned or version.tags.get(PINNED)
    with TemporaryDirectory() as folder:
        files = VersionFiles.checked(registry.download(version, Path(folder)), pinned)
        if not (files.folder / WEIGHTS).is_file():
            raise RegistryError(
                f"{registry.name} version {number}: expected {WEIGHTS}, found a version without weights"
            )
        shutil.copyfile(files.folder / WEIGHTS, out / paths.MODEL_FILE)
        shutil.copyfile(files.folder / TRAINING_IDS, out / paths.SEEN_FILE)
    write_json(out / "champion.json", {"name": registry.name, "version": number, PINNED: pinned})
    logger.info("the student starts from %s version %d", registry.name, number)
