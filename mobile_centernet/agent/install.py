"""How an offered release becomes one that may run here: room for it, its bundle verified, its fit, its proof."""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mobile_centernet.agent import disk
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.registry_client import Offer
from mobile_centernet.agent.selftest_runner import Proof, Prove, check_latency
from mobile_centernet.agent.store import Memory, Store
from mobile_centernet.bundle.errors import BundleError, ProofError, ProofInterruptedError, RottenError, StorageError
from mobile_centernet.bundle.keys import TrustedKeys
from mobile_centernet.bundle.manifest import MANIFEST, Manifest
from mobile_centernet.bundle.unpack import extract, verify_folder

log = logging.getLogger("mobile-centernet-edge")

_MB = 1_000_000


class Intake:
    """Of one device. Changes the store's releases and engines, never what `current` leads to."""

    def __init__(self, config: Config, store: Store, device: Device, prove: Prove) -> None:
        self._config = config
        self._store = store
        self._device = device
        self._prove = prove

    def trusted(self) -> TrustedKeys:
        """Read anew each time: keys are added and revoked under a running agent. Raises BundleError."""
        return TrustedKeys.load(self._config.paths.trusted, self._config.paths.revoked)

    def circumstances(self) -> str:
        """What a refusal depends on besides the release: another key, driver or setting is another try."""
        try:
            trusted = self.trusted()
            keys = [sorted(trusted.keys), sorted(trusted.revoked)]
        except BundleError as error:
            keys = [[str(error)]]
        facts = [keys, asdict(self._device), asdict(self._config.device), self._config.proof.command]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def check_space(self, offer: Offer) -> None:
        """Raises StorageError where the rest of the bundle and its unpacked files would leave too little."""
        partial = self._store.partial(offer.digest)
        have = partial.stat().st_size if partial.exists() else 0
        need = max(0, offer.bytes - have) + offer.bytes + int(self._config.store.keep_free_mb * _MB)
        free = self._store.free_bytes()
        if free < need:
            raise StorageError(
                f"{self._store.root}: expected {need / _MB:.1f} MB of free space for release {offer.release}, "
                f"found {free / _MB:.1f} MB"
            )

    def verify(self, digest: str) -> Manifest:
        """Unpack the download, or look again at files that lie here. The partial download goes.

        Raises BundleError for a release that no good signature covers, StorageError where the disk is at fault,
        RottenError for files that were good once and are removed now.
        """
        folder, partial = self._store.folder(digest), self._store.partial(digest)
        trusted = self.trusted()
        try:
            manifest = self._verified_again(folder, trusted) if folder.is_dir() else extract(partial, folder, trusted)
            disk.remove_durably(partial)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be changed ({error.strerror})") from error
        return manifest

    def check_fit(self, manifest: Manifest, memory: Memory) -> None:
        """Raises BundleError for a good bundle that is not for this device, or not for now."""
        wanted, precision = self._config.registry.model, self._config.device.precision
        if manifest.name != wanted:
            raise BundleError(f"bundle: expected a release of {wanted}, found one of {manifest.name}")
        if precision not in manifest.variants:
            raise BundleError(f"bundle: expected a variant {precision}, found {', '.join(manifest.variants)}")
        is_again = manifest.release == memory.floor and manifest.sha256 == memory.newest
        if manifest.release <= memory.floor and not is_again:
            raise BundleError(f"bundle: expected a release after {memory.floor}, found {manifest.release}")

    def prove(self, digest: str, manifest: Manifest) -> Proof:
        """Build the engine or find it, run the self-test, judge its latency.

        Raises ProofError where the release does not run here, ProofInterruptedError where that is not known yet.
        """
        try:
            proof = self._proved(self._store.folder(digest), manifest)
        except OSError as error:
            raise ProofInterruptedError(f"{self._store.engines}: cannot be changed ({error.strerror})") from error
        check_latency(proof, manifest, self._config.device.profile)
        return proof

    def discard(self, digest: str) -> None:
        """Remove a release; one that stays is removed by a later `collect`."""
        for path in (self._store.folder(digest), self._store.partial(digest)):
            try:
                disk.remove_folder(path)
            except OSError as error:
                log.warning("%s: cannot be removed (%s)", path, error.strerror)

    def collect(self, digests: Iterable[str]) -> None:
        """Keep these releases and their engines only; a disk that refuses is not worth stopping for."""
        kept = list(digests)
        try:
            self._store.collect(kept, self._engines(kept))
        except OSError as error:
            log.warning("%s: cannot be tidied (%s)", self._store.root, error.strerror)

    def _verified_again(self, folder: Path, trusted: TrustedKeys) -> Manifest:
        """Files that are not whole any more go, so that others are fetched, which then are judged."""
        try:
            return verify_folder(folder, trusted)
        except BundleError as error:
            disk.remove_folder(folder)
            raise RottenError(str(error)) from error

    def _proved(self, folder: Path, manifest: Manifest) -> Proof:
        """An engine is built beside its place, so that only proven ones are ever in it."""
        if not self._device.builds_engines(self._config.device.provider):
            return self._prove(folder, manifest, None)
        place = self._store.engine(self._engine_key(manifest))
        if place.is_dir():
            return self._proved_with(place, folder, manifest)
        building = place.with_name(f"{place.name}.partial")
        disk.remove_folder(building)
        building.mkdir()
        proof = self._prove(folder, manifest, building)
        disk.rename(building, place)
        disk.sync_folder(place.parent)
        return proof

    def _proved_with(self, engine: Path, folder: Path, manifest: Manifest) -> Proof:
        try:
            return self._prove(folder, manifest, engine)
        except ProofError as error:
            disk.remove_folder(engine)
            raise ProofInterruptedError(f"{error}; its engine is to be built anew") from error

    def _engine_key(self, manifest: Manifest) -> str:
        precision = self._config.device.precision
        return self._device.engine_key(precision, manifest.files[manifest.variants[precision].model].sha256)

    def _engines(self, digests: Iterable[str]) -> list[str]:
        keys = []
        for digest in digests:
            try:
                keys.append(self._engine_key(read_manifest(self._store.folder(digest))))
            except (BundleError, KeyError, OSError):
                continue  # not unpacked yet, or without this device's variant: it has no engine
        return keys


def read_manifest(folder: Path) -> Manifest:
    """Of a release that was verified when it was unpacked. Raises BundleError or OSError."""
    path = folder / MANIFEST
    return Manifest.from_bytes(path.read_bytes(), str(path))
