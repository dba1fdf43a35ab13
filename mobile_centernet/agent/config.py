"""The agent's settings: one TOML file, checked as a whole before anything starts."""

import math
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mobile_centernet.agent.errors import ConfigError
from mobile_centernet.inference.graph import PRECISIONS
from mobile_centernet.outside import typed
from mobile_centernet.trust.layout import CHANNELS, DEVICE_NAME

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6
    import tomli as tomllib

ADDRESS = re.compile(r"https?://[^\s/?#@\\]+(/[^\s?#@]*)?", re.IGNORECASE)
PROVIDERS = ("auto", "tensorrt", "cuda", "cpu")


def _setting(expected: str, holds: Callable[[Any], object], **default: Any) -> Any:
    """A field with its rule; `expected` says the rule in words."""
    return field(**default, metadata={"expected": expected, "holds": holds})


def _seconds(default: float, least: float = 0.0) -> Any:
    return _setting(f"seconds from {least:g}", lambda value: least <= value < math.inf, default=default)


def is_address(text: str) -> bool:
    """Whether it is an address that can be asked, without a password, a query or a fragment, which may hold secrets."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        return False
    return bool(ADDRESS.fullmatch(text) and text.isascii() and host)


_ADDRESS = "http:// or https://, a host and a path in ASCII, without a password, ? or #"


@dataclass(frozen=True)
class TrustSettings:
    """Where releases come from: a repository of The Update Framework, which any web server may serve, and its root.

    Credentials, if the server wants any, come from ~/.netrc (or $NETRC).
    """

    url: str = _setting(_ADDRESS, is_address)
    root: Path = _setting("a file", bool)  # noqa: RUF009
    model: str = _setting("a model's name", bool)
    channel: str = _setting(" or ".join(CHANNELS), lambda value: value in CHANNELS, default="champion")
    timeout_s: float = _seconds(10.0, 0.1)  # for an answer, and each piece of it
    least_kb_s: float = _setting("kilobytes a second from 0.1", lambda value: 0.1 <= value < math.inf, default=16.0)


@dataclass(frozen=True)
class ReportSettings:
    """The MLflow server that takes reports; none where it is empty.

    Credentials come from MLFLOW_TRACKING_USERNAME and _PASSWORD, _TOKEN, or ~/.netrc.
    """

    url: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), default="")


@dataclass(frozen=True)
class DeviceSettings:
    """What this device is. `name` appears in reports; `profile` chooses the latency budget of a release."""

    name: str = _setting(
        "1 to 64 letters, digits, _ or -",
        DEVICE_NAME.fullmatch,
        default_factory=lambda: re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "device",
    )
    profile: str = _setting("a profile", bool, default="default")
    precision: str = _setting(", ".join(PRECISIONS), lambda value: value in PRECISIONS, default="fp32")
    provider: str = _setting(", ".join(PROVIDERS), lambda value: value in PROVIDERS, default="auto")


@dataclass(frozen=True)
class PathSettings:
    """`root` is the agent's own folder; a relative path starts at the file's folder."""

    root: Path = _setting("a folder", bool)  # noqa: RUF009


@dataclass(frozen=True)
class PollSettings:
    """How often the repository is asked: every `interval_s`, more or less `jitter` of it; failures double the wait."""

    interval_s: float = _seconds(300.0, 0.01)
    jitter: float = _setting("a share 0..1", lambda value: 0 <= value <= 1, default=0.2)
    longest_s: float = _seconds(3600.0, 0.01)

    def backed_off(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row: doubled by each, up to a limit."""
        return min(self.interval_s * 2.0 ** min(failures, 30), max(self.longest_s, self.interval_s))


@dataclass(frozen=True)
class HealthSettings:
    """When a new release stays: the application's heartbeat names it within `start_s`, then for `window_s` without a
    gap longer than `gap_s` and with at most `restarts` new processes."""

    window_s: float = _seconds(60.0)
    start_s: float = _seconds(60.0, 0.01)
    gap_s: float = _seconds(10.0, 0.01)
    restarts: int = _setting("a number from 0", lambda value: value >= 0, default=1)


@dataclass(frozen=True)
class SelfTestSettings:
    """The self-test, in a process of its own. `command` replaces it: its arguments are those of the default."""

    command: tuple[str, ...] = ()
    timeout_s: float = _seconds(3600.0, 0.1)  # TensorRT builds for minutes
    runs: int = _setting("a number from 1", lambda value: value >= 1, default=20)


@dataclass(frozen=True)
class StoreSettings:
    """Space on the disk that a download must leave free."""

    keep_free_mb: float = _setting("megabytes from 0", lambda value: value >= 0, default=64.0)


@dataclass(frozen=True)
class StatusSettings:
    """`port`: where /status and /metrics are served on 127.0.0.1; 0 serves nothing."""

    port: int = _setting("a port 0..65535", lambda value: 0 <= value <= 65535, default=0)


def _number(least: float, default: float, most: float = math.inf) -> Any:
    expected = f"a number from {least:g}" + (f" to {most:g}" if most < math.inf else "")
    return _setting(expected, lambda value: least <= value <= most and value < math.inf, default=default)


@dataclass(frozen=True)
class HarvestSettings:
    """What an application's `Harvester` keeps: at most `frames_a_day`, of which `control` are drawn by chance, and
    `disk_mb` on the disk. The rest is `Criteria`'s; `blur` are classes whose boxes nobody may see."""

    frames_a_day: int = _number(0, 200)
    control: int = _number(0, 20)
    disk_mb: float = _number(0, 500.0)
    least_s: float = _seconds(1.0)
    margin: float = _number(0, 0.1, 1)
    rare_share: float = _number(0, 0.01, 1)
    near_bits: int = _number(0, 40, 256)
    novel_bits: int = _number(0, 72, 256)
    quality: int = _number(1, 90, 95)
    blur: tuple[str, ...] = ()


@dataclass(frozen=True)
class UploadSettings:
    """Where kept frames go, by PUT: below `url`, or to the addresses that `presign` gives for each; neither: nowhere.

    Credentials: the token in the file `token`, else ~/.netrc (or $NETRC). At most `mb_a_day` leave on a day.
    """

    url: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), default="")
    presign: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), default="")
    token: str = ""
    mb_a_day: float = _number(0, 50.0)


@dataclass(frozen=True)
class Config:
    """The agent's settings, a section a field. `proof` are those of the self-test."""

    trust: TrustSettings
    paths: PathSettings
    report: ReportSettings = field(default_factory=ReportSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    poll: PollSettings = field(default_factory=PollSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    proof: SelfTestSettings = field(default_factory=SelfTestSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    status: StatusSettings = field(default_factory=StatusSettings)
    harvest: HarvestSettings = field(default_factory=HarvestSettings)
    upload: UploadSettings = field(default_factory=UploadSettings)


def load_config(path: Path) -> Config:
    """Read the settings.

    Args:
        path: a TOML file; relative paths in it start at its folder.

    Raises:
        ConfigError: for the first thing that is not as it must be, naming the file and the setting.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        if "registry" in document:
            raise ValueError(
                "registry: releases come signed from a repository now: expected [trust] with url, root, model and "
                "channel in its place, without paths.trusted and paths.revoked (docs/agent-files.md, Migration)"
            )
        config: Config = typed(document, Config)
        for section in fields(config):
            for setting in fields(values := getattr(config, section.name)):
                value, expected = getattr(values, setting.name), setting.metadata.get("expected")
                if expected and not setting.metadata["holds"](value):
                    # An address that is refused may be so for the secret in it.
                    found = "another" if setting.name in ("url", "presign") else repr(value)
                    raise ValueError(f"{section.name}.{setting.name}: expected {expected}, found {found}")
        harvest, folder = config.harvest, path.resolve().parent
        if harvest.control > harvest.frames_a_day:
            expected = f"at most frames_a_day, which is {harvest.frames_a_day}"
            raise ValueError(f"harvest.control: expected {expected}, found {harvest.control}")
        root, store = (folder / each.expanduser() for each in (config.trust.root, config.paths.root))
    except OSError as error:
        raise ConfigError(f"{path}: expected the agent's settings, but it cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    except (ValueError, RuntimeError) as error:  # a service has no home folder
        raise ConfigError(f"{path}: {error}") from error
    return replace(config, trust=replace(config.trust, root=root), paths=PathSettings(store))
