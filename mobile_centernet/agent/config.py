"""The agent's settings: one TOML file, checked as a whole before anything starts."""

import math
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mobile_centernet.agent.errors import ConfigError
from mobile_centernet.bundle.protocol import DEVICE_NAME
from mobile_centernet.inference.graph import PRECISIONS
from mobile_centernet.trust.layout import CHANNELS

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6
    import tomli as tomllib

ADDRESS = re.compile(r"https?://[^\s/?#@\\]+(/[^\s?#@]*)?", re.IGNORECASE)
PROVIDERS = ("auto", "tensorrt", "cuda", "cpu")


def _setting(
    expected: str,
    holds: Callable[[Any], object],
    default: object = MISSING,
    factory: Callable[[], object] | None = None,
) -> Any:
    """A field with its rule; `expected` says the rule in words."""
    rule = {"expected": expected, "holds": holds}
    return field(default_factory=factory, metadata=rule) if factory else field(default=default, metadata=rule)


def _seconds(default: float, least: float = 0.0) -> Any:
    return _setting(f"seconds from {least:g}", lambda value: least <= value < math.inf, default)


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
    root: Path = _setting("a file", lambda _: True)  # noqa: RUF009
    model: str = _setting("a model's name", bool)
    channel: str = _setting(" or ".join(CHANNELS), lambda value: value in CHANNELS, "champion")
    timeout_s: float = _seconds(10.0, 0.1)  # for an answer, and each piece of it
    least_kb_s: float = _setting("kilobytes a second from 0.1", lambda value: 0.1 <= value < math.inf, 16.0)


@dataclass(frozen=True)
class ReportSettings:
    """The MLflow server that takes reports; none where it is empty.

    Credentials come from MLFLOW_TRACKING_USERNAME and _PASSWORD, _TOKEN, or ~/.netrc.
    """

    url: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), "")


@dataclass(frozen=True)
class DeviceSettings:
    """What this device is. `name` appears in reports; `profile` chooses the latency budget of a release."""

    name: str = _setting(
        "1 to 64 letters, digits, _ or -",
        DEVICE_NAME.fullmatch,
        factory=lambda: re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "device",
    )
    profile: str = _setting("a profile", bool, "default")
    precision: str = _setting(", ".join(PRECISIONS), lambda value: value in PRECISIONS, "fp32")
    provider: str = _setting(", ".join(PROVIDERS), lambda value: value in PROVIDERS, "auto")


@dataclass(frozen=True)
class PathSettings:
    """`root` is the agent's own folder; a relative path starts at the file's folder."""

    root: Path = _setting("a folder", lambda _: True)  # noqa: RUF009


@dataclass(frozen=True)
class PollSettings:
    """How often the repository is asked: every `interval_s`, more or less `jitter` of it; failures double the wait."""

    interval_s: float = _seconds(300.0, 0.01)
    jitter: float = _setting("a share 0..1", lambda value: 0 <= value <= 1, 0.2)
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
    restarts: int = _setting("a number from 0", lambda value: value >= 0, 1)


@dataclass(frozen=True)
class SelfTestSettings:
    """The self-test, in a process of its own. `command` replaces it: its arguments are those of the default."""

    command: tuple[str, ...] = _setting("a command", lambda _: True, ())
    timeout_s: float = _seconds(3600.0, 0.1)  # TensorRT builds for minutes
    runs: int = _setting("a number from 1", lambda value: value >= 1, 20)


@dataclass(frozen=True)
class StoreSettings:
    """Space on the disk that a download must leave free."""

    keep_free_mb: float = _setting("megabytes from 0", lambda value: value >= 0, 64.0)


@dataclass(frozen=True)
class StatusSettings:
    """`port`: where /status and /metrics are served on 127.0.0.1; 0 serves nothing."""

    port: int = _setting("a port 0..65535", lambda value: 0 <= value <= 65535, 0)


def _number(least: float, default: float, most: float = math.inf) -> Any:
    expected = f"a number from {least:g}" + (f" to {most:g}" if most < math.inf else "")
    return _setting(expected, lambda value: least <= value <= most and value < math.inf, default)


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
    blur: tuple[str, ...] = _setting("a list of classes", lambda _: True, ())


@dataclass(frozen=True)
class UploadSettings:
    """Where kept frames go, by PUT: below `url`, or to the addresses that `presign` gives for each; neither: nowhere.

    Credentials: the token in the file `token`, else ~/.netrc (or $NETRC). At most `mb_a_day` leave on a day.
    """

    url: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), "")
    presign: str = _setting(f"{_ADDRESS}, or nothing", lambda value: not value or is_address(value), "")
    token: str = _setting("a file", lambda _: True, "")
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


SECTIONS: dict[str, type] = {
    "trust": TrustSettings,
    "paths": PathSettings,
    "report": ReportSettings,
    "device": DeviceSettings,
    "poll": PollSettings,
    "health": HealthSettings,
    "proof": SelfTestSettings,
    "store": StoreSettings,
    "status": StatusSettings,
    "harvest": HarvestSettings,
    "upload": UploadSettings,
}


def load_config(path: Path) -> Config:
    """Read the settings.

    Args:
        path: a TOML file; relative paths in it start at its folder.

    Raises:
        ConfigError: for the first thing that is not as it must be, naming the file and the setting.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: expected the agent's settings, but it cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    if "registry" in document:
        raise ConfigError(
            f"{path}: registry: releases come signed from a repository now: expected [trust] with url, root, model and "
            "channel in its place, without paths.trusted and paths.revoked (docs/edge.md, Migration)"
        )
    _check_names(document, SECTIONS, str(path))
    sections: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        values, where = document.get(section, {}), f"{path}: {section}"
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: expected a section [{section}], found {values!r}")
        settings = {setting.name: setting for setting in fields(kind)}
        _check_names(values, settings, where)
        taken = {}
        for name, setting in settings.items():
            if name in values:
                taken[name] = _typed(values[name], setting.type, f"{where}.{name}", path.resolve().parent)
            elif setting.default is MISSING and setting.default_factory is MISSING:
                raise ConfigError(f"{where}.{name}: expected {setting.metadata['expected']}, found nothing")
        sections[section] = kind(**taken)
        for name, setting in settings.items():
            value = getattr(sections[section], name)
            if not setting.metadata["holds"](value):
                # An address that is refused may be so for the secret in it.
                found = "another" if name in ("url", "presign") else repr(value)
                raise ConfigError(f"{where}.{name}: expected {setting.metadata['expected']}, found {found}")
    harvest = sections["harvest"]
    if harvest.control > harvest.frames_a_day:
        expected = f"at most frames_a_day, which is {harvest.frames_a_day}"
        raise ConfigError(f"{path}: harvest.control: expected {expected}, found {harvest.control}")
    return Config(**sections)


def _check_names(values: Mapping[str, object], known: Mapping[str, object], where: str) -> None:
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"{where}: expected {', '.join(known)}, found {', '.join(unknown)}")


def _typed(value: Any, kind: Any, where: str, folder: Path) -> Any:
    """`value` as the field wants it: whole numbers do for float, texts for paths; True is no number."""
    if kind is Path:
        text = _typed(value, str, where, folder)
        try:
            return folder / Path(text).expanduser()
        except RuntimeError as error:  # a service has no home folder
            raise ConfigError(f"{where}: expected a path, found {text!r} ({error})") from error
    if kind == tuple[str, ...]:
        return tuple(_typed(entry, str, where, folder) for entry in _typed(value, list, where, folder))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: expected {kind.__name__}, found {type(value).__name__} {value!r}")
    return value
