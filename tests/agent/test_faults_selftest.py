"""Self-tests and engine builds that fail."""

from functools import partial
from pathlib import Path

import pytest

from mobile_centernet.agent.device import Device
from mobile_centernet.agent.selftest_runner import run_self_test
from mobile_centernet.bundle.manifest import MANIFEST, Manifest
from tests.helpers.lab import Lab, self_test_in_process
from tests.helpers.outcomes import Releases, recovers, stays, unpacked


def command(tmp_path: Path, script: str) -> list[str]:
    path = tmp_path / "proof.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("script", "sentence", "is_refused"),
    [
        ("echo 'Error: network has dynamic shapes' >&2; exit 2", "self-test: Error: network has dynamic", True),
        ("echo nonsense", "self-test: expected its result as JSON, found 'nonsense", True),
        ("exec sleep 60", "self-test: expected an end within 1 s", True),
        ("kill -9 $$", "self-test: expected an end, found exit status -9", False),
        ("exit 1", "self-test: expected an end, found exit status 1: it says nothing", False),
    ],
)
def test_a_self_test_or_an_engine_build_that_fails(
    device: Lab, releases: Releases, tmp_path: Path, script: str, sentence: str, is_refused: bool
) -> None:
    """One that says no is not asked again; one that was killed is."""
    config = device.configure(proof={"command": command(tmp_path, script), "timeout_s": 1.0})
    agent = stays(device, releases, sentence, self_test=partial(run_self_test, config))
    assert agent.failures == (0 if is_refused else 1)
    assert bool(device.saved.refused) == is_refused
    device.configure()
    recovers(device, releases)


def test_engines_are_built_once_for_a_device_and_built_anew_for_another(device: Lab, releases: Releases) -> None:
    built: list[Path | None] = []

    def build_engine(folder: Path, manifest: Manifest, engine: Path | None) -> object:
        built.append(engine)
        if engine is not None and not (engine / "model.engine").exists():
            (engine / "model.engine").write_text("built")
        return self_test_in_process(folder, manifest, None)

    orin = Device("Orin", "10.3.0")
    device.configure(device={"provider": "auto"})
    recovers(device, releases, device=orin, self_test=build_engine)
    (engine,) = device.store.engines.iterdir()
    assert built == [engine.with_name(f"{engine.name}.partial")]
    with device.application():
        agent = device.agent(device=orin, self_test=build_engine)
        agent.start()
        agent.rollback()
        assert agent.problem is None and len(list(device.store.engines.iterdir())) == 2
        agent.forget_refusals()
        agent.poll()
    assert device.saved.committed and device.saved.min_release == 13
    newer = device.agent(device=Device("Orin", "10.4.0"))._installer
    assert newer.circumstances() != agent._installer.circumstances()


def test_an_engine_that_does_not_work_any_more_is_built_anew(device: Lab, releases: Releases) -> None:
    from mobile_centernet.agent.errors import SelfTestError

    def build_engine(folder: Path, manifest: Manifest, engine: Path | None) -> object:
        assert engine is not None
        if (engine / "rotten").exists():
            raise SelfTestError("self-test: the engine does not load")
        return self_test_in_process(folder, manifest, None)

    orin = Device("Orin", "10.3.0")
    with device.application():
        agent = device.agent(device=orin, self_test=build_engine)
        agent.start()
        manifest = Manifest.from_json(unpacked(releases[13])[MANIFEST])
        place = device.store.engine(orin.engine_key("fp32", manifest))
        device.store.folder(releases[13].digest)
        agent._installer.collect = lambda _: None  # type: ignore[method-assign]
        place.mkdir()
        (place / "rotten").touch()
        agent.poll()
        assert agent.problem == "self-test: the engine does not load; its engine is to be built anew"
        agent.poll()
    assert device.running() == releases[13].digest and not (place / "rotten").exists()
