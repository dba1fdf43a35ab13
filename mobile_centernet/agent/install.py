"""How an offered release becomes one that may run here: room for it, its bundle verified, its fit, its self-test."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict

from mobile_centernet.agent import disk
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.errors import RottenError, SelfTestError, SelfTestInterruptedError, SlowSelfTestError
from mobile_centernet.agent.http import Hear, download
from mobile_centernet.agent.selftest_runner import SelfTest, SelfTestResult
from mobile_centernet.agent.store import AgentStore, Installed
from mobile_centernet.agent.trust_client import TrustClient
from mobile_centernet.bundle.bundle import extract, read_manifest, verify_folder
from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.manifest import DEFAULT_PROFILE, Manifest
from mobile_centernet.trust.statement import Statement

logger = logging.getLogger(__name__)

_MB = 1_000_000


class Installer:
    """Of one device. Changes the store's releases and engines, never what `current` leads to."""

    def __init__(self, config: Config, store: AgentStore, device: Device, self_test: SelfTest) -> None:
        self._config = config
        self._store = store
        self._device = device
        self._self_test = self_test

    def circumstances(self) -> str:
        """What a refusal depends on besides the release: another driver or setting is another try."""
        facts = [asdict(self._device), asdict(self._config.device), self._config.proof.command]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def fetch(self, statement: Statement, client: TrustClient, hear: Hear) -> None:
        """Download a bundle, or the rest of it, where there is room.

        Raises:
            TransferError: it may be tried again.
            StorageError: the disk refuses, or the bundle and its unpacked files would leave too little room.
        """
        partial, settings = self._store.partial(statement.manifest), self._config.trust
        have = partial.stat().st_size if partial.exists() else 0
        need = max(0, statement.bytes - have) + statement.bytes + int(self._config.store.keep_free_mb * _MB)
        free = shutil.disk_usage(self._store.root).free
        if free < need:
            raise StorageError(
                f"{self._store.root}: expected {need / _MB:.1f} MB of free space for version {statement.version}, "
                f"found {free / _MB:.1f} MB"
            )
        download(
            client.url(statement.bundle, statement.sha256),
            statement.bytes,
            statement.sha256,
            partial,
            client.headers(),
            settings.timeout_s,
            settings.least_kb_s * 1000,
            hear,
        )

    def verify(self, installed: Installed) -> Manifest:
        """Unpack the download, or verify again the files that lie here. The partial download goes.

        Raises:
            BundleError: it is not what the statement names, or not for this device.
            StorageError: the disk is at fault.
            RottenError: the files were good once; they are removed, so that others are fetched, which then are judged.
        """
        folder, partial = self._store.folder(installed.digest), self._store.partial(installed.digest)
        try:
            if folder.is_dir():
                try:
                    manifest = verify_folder(folder)
                except StorageError:
                    raise
                except BundleError as error:
                    disk.remove_folder(folder)
                    raise RottenError(str(error)) from error
            else:
                manifest = extract(partial, folder, installed.digest)
            disk.remove_durably(partial)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be changed ({error.strerror})") from error

        for what, expected, found in (
            ("a release of", self._config.trust.model, manifest.name),
            ("version", installed.version, manifest.version),
        ):
            if found != expected:
                raise BundleError(f"bundle: expected {what} {expected}, found {found}")
        if (precision := self._config.device.precision) not in manifest.variants:
            raise BundleError(f"bundle: expected a variant {precision}, found {', '.join(manifest.variants)}")
        return manifest

    def self_test(self, digest: str, manifest: Manifest) -> SelfTestResult:
        """Build the engine or find it, run the self-test, judge its latency.

        An engine is built beside its place, so that only tested ones are ever in it.

        Raises:
            SelfTestError: the release does not run here; a SlowSelfTestError where that may be the moment's fault.
            SelfTestInterruptedError: that is not known yet.
        """
        folder, device, settings = self._store.folder(digest), self._device, self._config.device
        try:
            if settings.provider == "tensorrt" or (settings.provider == "auto" and device.gpu and device.tensorrt):
                engine = self._store.engine(device.engine_key(settings.precision, manifest))
                if engine.is_dir():
                    try:
                        result = self._self_test(folder, manifest, engine)
                    except SlowSelfTestError:
                        raise
                    except SelfTestError as error:
                        disk.remove_folder(engine)
                        raise SelfTestInterruptedError(
                            f"{error}; its engine is removed and will be built again"
                        ) from error
                else:
                    building = engine.with_name(f"{engine.name}.partial")
                    disk.remove_folder(building)
                    building.mkdir()
                    result = self._self_test(folder, manifest, building)
                    for built in building.iterdir():
                        disk.sync_file(built)
                    disk.sync_folder(building)
                    disk.rename(building, engine)
                    disk.sync_folder(engine.parent)
            else:
                result = self._self_test(folder, manifest, None)
        except OSError as error:
            raise SelfTestInterruptedError(f"{self._store.engines}: cannot be changed ({error.strerror})") from error

        budget = manifest.latency_ms.get(settings.profile, manifest.latency_ms[DEFAULT_PROFILE])
        if not result.latency_ms <= budget:
            raise SlowSelfTestError(
                f"latency: expected at most {budget:g} ms per image on profile {settings.profile}, "
                f"found {result.latency_ms:.1f} ms ({result.provider})"
            )
        return result

    def discard(self, digest: str) -> None:
        """Remove a release; one that stays is removed by a later `collect`."""
        for path in (self._store.folder(digest), self._store.partial(digest)):
            try:
                disk.remove_folder(path)
            except OSError as error:
                logger.warning("%s: cannot be removed (%s)", path, error.strerror)

    def collect(self, digests: Iterable[str]) -> None:
        """Keep these releases and their engines only; a disk that refuses is not worth stopping for."""
        kept, engines = list(digests), []
        for digest in kept:
            try:
                manifest = read_manifest(self._store.folder(digest))
                engines.append(self._device.engine_key(self._config.device.precision, manifest))
            except (BundleError, KeyError, OSError):
                continue  # not unpacked yet, or without this device's variant: it has no engine
        try:
            self._store.collect(kept, engines)
        except OSError as error:
            logger.warning("%s: cannot be tidied (%s)", self._store.root, error.strerror)
