"""The MLflow registry as a device sees it: which bundle an alias names, where it lies, and a place for a report.

MLflow's REST API 2.0 through the standard library; mlflow itself is hundreds of megabytes.
"""

import base64
import json
import netrc
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from mobile_centernet.agent.errors import NothingOfferedError, TransferError
from mobile_centernet.agent.http import Offer, read_within, request
from mobile_centernet.bundle.protocol import BUNDLE_BYTES, BUNDLE_PATH, BUNDLE_RELEASE, BUNDLE_SHA256
from mobile_centernet.bundle.tar import MAX_MEMBER

API = "/api/2.0/mlflow"
MAX_ANSWER = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for a missing alias


class RegistryClient:
    """One model of one registry. Every method raises TransferError, in one sentence, within about `timeout_s`."""

    def __init__(self, url: str, model: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self.timeout_s = timeout_s

    def offered(self, alias: str) -> Offer:
        """What `alias` names. Raises NothingOfferedError where it names nothing that a device could take."""
        where = f"{self.url}{API}/registered-models/alias"
        query = urlencode({"name": self.model, "alias": alias})
        with request("GET", f"{where}?{query}", self.headers(), self.timeout_s) as response:
            content = read_within(response, MAX_ANSWER, self.timeout_s, where)
        if response.status in (401, 403):
            raise TransferError(
                f"{where}: expected to be let in, found status {response.status}: check MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD, or ~/.netrc"
            )
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            found = f"{content[:40]!r} (status {response.status})"
            raise TransferError(f"{where}: expected JSON from MLflow, found {found}") from error
        if not isinstance(answer, dict):
            raise TransferError(f"{where}: expected a JSON object from MLflow, found {type(answer).__name__}")
        if response.status in (400, 404) and answer.get("error_code") in _NOT_THERE:
            raise NothingOfferedError(f"{self.url}: {self.model} has no alias {alias}")
        if response.status != 200:
            raise TransferError(f"{where}: expected an answer, found status {response.status}")

        where = f"{self.url}: {self.model}"
        version: Any = answer.get("model_version")
        try:
            number, run = version["version"], version["run_id"]
            if not (isinstance(number, str) and number.isdecimal() and isinstance(run, str) and _RUN.fullmatch(run)):
                raise ValueError(f"version {number!r} of run {run!r}")
            tags = {str(tag["key"]): str(tag["value"]) for tag in version.get("tags", [])}
        except (KeyError, TypeError, ValueError) as error:
            raise TransferError(f"{where}: expected a model version, found something else ({error!r})") from error

        missing = [name for name in (BUNDLE_SHA256, BUNDLE_BYTES, BUNDLE_RELEASE, BUNDLE_PATH) if name not in tags]
        if missing:
            raise NothingOfferedError(f"{where} version {number}: expected a bundle, found no tag {', '.join(missing)}")
        size, release = tags[BUNDLE_BYTES], tags[BUNDLE_RELEASE]
        if not (_SHA256.fullmatch(tags[BUNDLE_SHA256]) and size.isdecimal() and release.isdecimal()):
            raise NothingOfferedError(f"{where} version {number}: expected tags of a bundle, found {tags}")
        if not 0 < int(size) <= MAX_MEMBER:
            raise NothingOfferedError(f"{where} version {number}: expected at most {MAX_MEMBER} bytes, found {size}")
        place = urlencode({"run_id": run, "path": tags[BUNDLE_PATH]})
        return Offer(number, tags[BUNDLE_SHA256], int(size), int(release), f"{self.url}/get-artifact?{place}")

    def report(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        tag = {"name": self.model, "version": version, "key": key, "value": value}
        where = f"{self.url}{API}/model-versions/set-tag"
        headers = {**self.headers(), "Content-Type": "application/json"}
        with request("POST", where, headers, self.timeout_s, json.dumps(tag).encode()) as response:
            read_within(response, MAX_ANSWER, self.timeout_s, where)
            if response.status != 200:
                raise TransferError(f"{where}: expected the report to be taken, found status {response.status}")

    def headers(self) -> dict[str, str]:
        """Of every request. Credentials are read again each time, so that they can change under a running agent."""
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            return {"Authorization": f"Bearer {token}"}
        user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
        path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
        if not (user and password) and path.is_file():
            try:
                found = netrc.netrc(str(path)).authenticators(urlsplit(self.url).hostname or "")
            except (OSError, netrc.NetrcParseError) as error:
                raise TransferError(f"{path}: expected credentials in netrc form: {error}") from error
            user, password = (found[0], found[2]) if found else (None, None)
        if not (user and password):
            return {}
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
