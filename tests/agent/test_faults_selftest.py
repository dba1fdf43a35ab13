"""Self-tests and engine builds that fail."""

import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from mobile_centernet.agent.device import Device
from mobile_centernet.agent.selftest_runner import SelfTestResult, run_self_test
from mobile_centernet.agent.states import State
from mobile_centernet.agent.store import TRIALS
from mobile_centernet.bundle.manifest import MANIFEST, Manifest
from tests.helpers.lab import Lab, self_test_in_process
from tests.helpers.outcomes import Releases, recovers, stays, unpacked


def command(tmp_path: Path, script: str) -> list[str]:
    path = tmp_path / "proof.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("script", "sentence", "tries"),
    [
        ("echo 'Error: network has dynamic shapes' >&2; exit 2", "self-test: Error: network has dynamic", 0),
        ("echo nonsense", "self-test: expected its result as JSON, found 'nonsense", 0),
        ("exec sleep 60", "self-test timed out after 1 s", 1),
        ("kill -9 $$", "self-test ended unexpectedly (exit status -9)", None),
        ("exit 1", "self-test ended unexpectedly (exit status 1): it says nothing", None),
    ],
)
def test_a_self_test_or_an_engine_build_that_fails(
    device: Lab, releases: Releases, tmp_path: Path, script: str, sentence: str, tries: int | None
) -> None:
    """One that says no is not asked again, one that was slow some times; one that was killed says nothing."""
    config = device.configure(proof={"command": command(tmp_path, script), "timeout_s": 1.0})
    agent = stays(device, releases, sentence, self_test=partial(run_self_test, config, lambda: None))
    assert agent.failures == (1 if tries is None else 0)
    assert [refusal.tries for refusal in device.saved.refused.values()] == ([] if tries is None else [tries])
    if tries == 0:
        agent.poll()
        assert agent.problem and agent.problem.startswith("refused before")
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
    assert device.running() == releases[13].digest
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
        assert agent.problem == "self-test: the engine does not load; its engine is removed and will be built again"
        agent.poll()
    assert device.running() == releases[13].digest and not (place / "rotten").exists()


def test_a_slow_moment_is_tried_again_and_a_slow_release_is_not_for_ever(device: Lab, releases: Releases) -> None:
    """A hot chip, a busy one: the same release later; after TRIALS the release is slow."""
    hot = True

    def self_test(folder: Path, manifest: Manifest, engine: Path | None) -> SelfTestResult:
        return SelfTestResult("cpu", 1e6 if hot else 1.0, 0.0, 0.0)

    with device.application():
        agent = device.polled(self_test=self_test)
        assert agent.problem and agent.problem.startswith("latency: expected at most 10000 ms")
        agent.poll()
        assert agent.problem.startswith("tried again later: latency"), "not at once"
        for _ in range(TRIALS - 2):
            agent = device.polled(self_test=self_test)  # a new agent knows of no wait
        hot = False
        device.polled(self_test=self_test)
        assert device.running() == releases[13].digest
        hot = True
        device.offer(releases[14])
        for _ in range(TRIALS):
            agent = device.polled(self_test=self_test)
        hot = False
        agent = device.polled(self_test=self_test)
    assert agent.problem and agent.problem.startswith("refused before: latency")
    assert device.running() == releases[13].digest


def test_a_self_test_that_is_cut_off_leaves_no_process(device: Lab, releases: Releases, tmp_path: Path) -> None:
    """An operator who wants the release before does not wait for an engine that is built for an hour."""
    device.install(releases[13])
    device.offer(releases[14])
    script = f"echo $$ > {tmp_path}/pid.tmp; mv {tmp_path}/pid.tmp {tmp_path}/pid; exec sleep 600"
    config = device.configure(proof={"command": command(tmp_path, script)})
    with device.application():
        agent = device.agent(self_test=None)
        agent.start()
        asked_at: list[float] = []

        def ask_when_it_runs() -> None:
            while not (tmp_path / "pid").is_file():
                time.sleep(0.02)
            asked_at.append(time.monotonic())
            device.store.request.touch()

        threading.Thread(target=ask_when_it_runs, daemon=True).start()
        agent.poll()
        assert time.monotonic() - asked_at[0] < 5 and agent.failures == 0 and agent.state is State.IDLE
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
    assert config.proof.timeout_s > 600 and device.running() == releases[13].digest
