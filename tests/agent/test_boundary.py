"""Whatever comes from outside, `poll` returns and says a problem: nothing but a request to stop ends an agent."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.health import HEARTBEAT
from mobile_centernet.agent.states import State
from mobile_centernet.agent.status import metrics
from mobile_centernet.outside import parse_object
from tests.helpers.file_server import Request
from tests.helpers.lab import Lab
from tests.helpers.outcomes import Releases, recovers

QUICK = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXTS = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [b"", b"{}", b"[]", b"null", b"[" * 16_000, b'{"a":' * 5000, b"9" * 5000, b"1e400", b"\xff\xfe", b"NaN"]
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=9,
    ).map(lambda value: json.dumps(value).encode()),
)
SIGNED = st.sampled_from(
    ["version", "expires", "meta", "roles", "keys", "targets", "delegations", "_type", "spec_version"]
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def holds(device: Lab, agent: Agent, releases: Releases) -> None:
    """It lives, what it says can be said, and the old release runs on."""
    assert agent.state in (State.IDLE, State.STARTING)
    json.loads(agent.status().to_json())
    assert metrics(agent.status()).isascii()
    assert device.store.pointed() == releases[12].digest


def polled(device: Lab) -> Agent:
    agent = device.agent()
    agent.start()
    agent.poll()
    return agent


def raw(answer: bytes) -> Callable[[Request], None]:
    return lambda request: request.wfile.write(answer) and None


@QUICK
@given(content=TEXTS)
def test_any_file_of_the_repository(device: Lab, releases: Releases, content: bytes) -> None:
    """In place of each, one after the other, for a device that has seen none of them."""
    for name in ("timestamp.json", "snapshot.json", "targets.json", "champion.json", "statement.json", "2.root.json"):
        good = dict(device.server.files)
        if name == "2.root.json":
            device.server.files["/metadata/2.root.json"] = content
        for path in [path for path in good if path.endswith(name)]:
            device.server.files[path] = content
        agent = polled(device)
        device.server.files.clear()
        device.server.files.update(good)
        holds(device, agent, releases)
        assert agent.problem, name


@QUICK
@given(
    field=SIGNED, value=st.one_of(st.integers(), st.text(max_size=20), st.none(), st.lists(st.integers(), max_size=2))
)
def test_any_field_of_the_metadata(device: Lab, releases: Releases, field: str, value: object) -> None:
    good = dict(device.server.files)
    for path in [path for path in good if path.startswith("/metadata/")]:
        document = json.loads(good[path])
        document["signed"][field] = value
        device.server.files[path] = json.dumps(document).encode()
    agent = polled(device)
    device.server.files.update(good)
    holds(device, agent, releases)
    assert agent.problem


@QUICK
@given(
    head=st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 999999 X", b"HTTP/9 200", b"HTTP/1.1 -1 X"]),
    ),
    name=st.sampled_from(["Content-Length", "Content-Range", "Transfer-Encoding", "X"]),
    value=st.one_of(
        st.binary(max_size=40), st.sampled_from([b"9" * 5000, b"-1", b"chunked", b"bytes 0-9/" + b"9" * 5000])
    ),
    body=st.binary(max_size=100),
)
@pytest.mark.parametrize("faulty", ["timestamp.json", "/targets/bundles/"])
def test_any_answer(
    device: Lab, releases: Releases, faulty: str, head: bytes, name: str, value: bytes, body: bytes
) -> None:
    device.configure(trust={"timeout_s": 0.3})
    device.server.faulty = faulty
    device.server.faults.clear()
    device.server.faults.append(raw(head + b"\r\n" + name.encode() + b": " + value + b"\r\n\r\n" + body))
    agent = polled(device)
    holds(device, agent, releases)
    assert agent.problem


@QUICK
@given(content=TEXTS, name=st.sampled_from([HEARTBEAT, f"{HEARTBEAT}.x"]))
def test_any_heartbeat(device: Lab, releases: Releases, content: bytes, name: str) -> None:
    device.configure(health={"start_s": 0.01, "gap_s": 0.01})
    (device.root / name).write_bytes(content)
    holds(device, polled(device), releases)


@QUICK
@given(content=TEXTS, both=st.booleans())
def test_any_memory(device: Lab, releases: Releases, content: bytes, both: bool) -> None:
    """Of one copy: nothing is lost. Of both: the release runs on, unproven, and the channel's is tried."""
    device.configure(trust={"url": "http://127.0.0.1:9"})
    copies = [device.root / name for name in ("memory.json", "memory.2.json")]
    good = copies[0].read_bytes()
    for copy in copies[: 1 + both]:
        copy.write_bytes(content)
    agent = polled(device)
    holds(device, agent, releases)
    assert (agent.saved.committed is None) == both and agent.problem
    for copy in copies:
        copy.write_bytes(good)


@QUICK
@given(content=st.one_of(TEXTS, st.text(max_size=60).map(lambda text: f"machine 127.0.0.1 login {text}".encode())))
def test_any_netrc(device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    device.server.expects = "Bearer x"
    (device.folder / "netrc").write_bytes(content)
    monkeypatch.setenv("NETRC", str(device.folder / "netrc"))
    agent = polled(device)
    holds(device, agent, releases)
    assert agent.problem and "Traceback" not in agent.problem


@QUICK
@given(kind=st.sampled_from([ValueError, RecursionError, MemoryError, KeyError, UnicodeError, AssertionError, OSError]))
@pytest.mark.parametrize("state", [s for s in State if s not in (State.IDLE, State.STARTING, State.REVERTING)])
def test_any_exception_in_any_state(
    device: Lab, releases: Releases, state: State, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a failure: counted, said, waited for longer; what was swapped is swapped back."""
    agent = device.agent()
    agent.start()

    def fails() -> None:
        raise kind("odd\nsentence")

    setattr(agent, f"_{state.value}", fails)
    with device.application():
        agent.poll()
    holds(device, agent, releases)
    assert agent.problem and "\n" not in agent.problem and device.saved.trial is None
    assert agent._events[f"{state.value}: failed"] == 1 == agent.failures


def test_and_then_all_is_well(device: Lab, releases: Releases) -> None:
    device.server.faults.append(raw(b"\0" * 100))
    assert polled(device).problem
    recovers(device, releases)


@given(content=TEXTS)
def test_an_object_or_a_value_error(content: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_object(content), dict)
