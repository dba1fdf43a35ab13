"""The MLflow registry: versions of the registered model, their files, tags and aliases.

    challenger   registered last; changes nothing on any device
    champion     what devices follow
    previous     the champion before it, to roll back to

Unlike tracking a training, nothing here is best effort: a registry that does not answer is a RegistryError, soon.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mobile_centernet.errors import UserError
from mobile_centernet.inference.graph import OUTPUTS
from mobile_centernet.mlops import lineage, mlflow_server
from mobile_centernet.mlops.registry.story import version_story

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
WITHDRAWN = "withdrawn"  # a version's tag: who rolled it back, and when
MODEL_FOLDER = "model"
MOST_PARAMS, LONGEST_PARAM = 100, 6000  # of MLflow: params of one request, characters of a value
ABOUT = (
    "A Mobile CenterNet: a small traffic detector, distilled, exported as ONNX in every precision. Devices follow the "
    "champion; a challenger was registered last; previous is the champion before. Each version's card has its scores."
)


class RegistryError(UserError):
    """The registry does not answer, refuses, or does not hold what was asked for."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the registered model."""

    number: int
    created: datetime
    run_id: str
    tags: Mapping[str, str]


class Registry:
    """All versions of one registered model, at MLFLOW_TRACKING_URI or else in the project's own database.

    Credentials come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Every method raises RegistryError.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        with _translated("connecting"):
            self._mlflow = mlflow_server.connect()
            self._client = self._mlflow.MlflowClient()

    def versions(self) -> list[Version]:
        """All, oldest first; none where the model was never registered."""
        found: list[Version] = []
        token: str | None = ""
        with _translated(f"listing the versions of {self.name}"):
            while token is not None:
                page = self._client.search_model_versions(f"name='{self.name}'", page_token=token or None)
                found += [_version(entry) for entry in page]
                token = page.token or None
        return sorted(found, key=lambda version: version.number)

    def find(self, tag: str, value: str) -> Version | None:
        """The oldest version with that tag."""
        return next((version for version in self.versions() if version.tags.get(tag) == value), None)

    def aliases(self) -> dict[str, int]:
        """Version by alias."""
        from mlflow.exceptions import MlflowException

        with _translated(f"reading the aliases of {self.name}"):
            try:
                found = self._client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {alias: int(number) for alias, number in found.items()}

    def version(self, number: int) -> Version:
        with _translated(f"reading version {number} of {self.name}"):
            return _version(self._client.get_model_version(self.name, str(number)))

    def resolve(self, which: str) -> Version:
        """A version by its number or by an alias."""
        if which.isdecimal():
            return self.version(int(which))
        aliases = self.aliases()
        if which not in aliases:
            known = ", ".join(f"{alias} (version {number})" for alias, number in sorted(aliases.items()))
            raise RegistryError(
                f"{self.name}: expected the number or alias of a version, found {which!r}; the registry has "
                f"{known or 'none: python -m steps register makes the first'}"
            )
        return self.version(aliases[which])

    def set_alias(self, alias: str, number: int) -> None:
        with _translated(f"setting alias {alias} of {self.name}"):
            self._client.set_registered_model_alias(self.name, alias, str(number))

    def tag(self, number: int, **tags: str) -> None:
        with _translated(f"tagging version {number} of {self.name}"):
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, str(number), key, value)

    def untag(self, version: Version, *keys: str) -> None:
        """Remove tags where they are set."""
        with _translated(f"tagging version {version.number} of {self.name}"):
            for key in keys:
                if key in version.tags:
                    self._client.delete_model_version_tag(self.name, str(version.number), key)

    def delete(self, version: Version) -> None:
        with _translated(f"deleting version {version.number} of {self.name}"):
            self._client.delete_model_version(self.name, str(version.number))

    def attach(self, version: Version, folder: Path, place: str) -> None:
        """Keep a folder's files with the run that registered the version, below `place`."""
        with _translated(f"attaching {folder} to version {version.number} of {self.name}"):
            self._client.log_artifacts(version.run_id, str(folder), place)

    def download(self, version: Version, folder: Path, attached: str | None = None) -> Path:
        """The version's files in a new folder below `folder`, unchecked: `version_files` does that.

        Args:
            attached: where `attach` kept a file of this version; then that one file comes, into `folder` itself.
        """
        if attached is not None:
            what = attached or "a file without a name"
            with _translated(f"downloading {what} of version {version.number} of {self.name}"):
                return Path(self._client.download_artifacts(version.run_id, attached, str(folder)))
        place = folder / str(version.number)
        place.mkdir(parents=True)
        with _translated(f"downloading version {version.number} of {self.name}"):
            uri = f"models:/{self.name}/{version.number}"
            return Path(self._mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(place)))

    def create(
        self,
        folder: Path,
        *,
        model_file: str,
        input_size: tuple[int, int],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        reports: Sequence[Path],
    ) -> Version:
        """A new version that holds `folder`'s files byte for byte, `model_file` being the one that MLflow loads.

        The version appears with all its tags at once, when everything else is stored: killed before that, there is
        none.
        """
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        shapes = {"boxes": (1, -1, 4), "scores": (1, -1), "labels": (1, -1)}
        types = {"boxes": np.float32, "scores": np.float32, "labels": np.int64}
        signature = ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (1, 3, *input_size), "image")]),
            Schema([TensorSpec(np.dtype(types[output]), shapes[output], output) for output in OUTPUTS]),
        )
        mlflow, told = self._mlflow, version_story(folder, self.name, tags)
        with _translated(f"registering {self.name}"):
            run_tags = {"stage": "register", **tags}
            if above := lineage.execution():
                experiment = mlflow.get_experiment_by_name(mlflow_server.EXPERIMENT).experiment_id
                given = {"stage": "pipeline", mlflow_server.EXECUTION_TAG: above}
                now = int(time.time() * 1000)
                run_tags[mlflow_server.PARENT_TAG] = mlflow_server.find_or_create_run(
                    self._client, experiment, mlflow_server.EXECUTION_TAG, given, above, now
                )
            names = mlflow_server.accepted_names([*told.params, *told.metrics, *metrics])
            with mlflow.start_run(run_name="register", tags=run_tags, description=told.card) as run:
                params = [(names[key], value[:LONGEST_PARAM]) for key, value in told.params.items()]
                for start in range(0, len(params), MOST_PARAMS):
                    mlflow.log_params(dict(params[start : start + MOST_PARAMS]))
                if datasets := mlflow_server.dataset_inputs(lineage.dvc_datasets(None)):
                    self._client.log_inputs(run.info.run_id, datasets=datasets)
                for report in reports:
                    mlflow.log_artifact(str(report), "reports")
                logged = mlflow.models.Model.log(
                    artifact_path=None,
                    name=MODEL_FOLDER,
                    flavor=_OnnxFiles,
                    params={"model_file": model_file, "input_size": "{1}x{0}".format(*input_size)},
                    folder=folder,
                    model_file=model_file,
                    signature=signature,
                )
                numbers = {names[key]: value for key, value in {**told.metrics, **metrics}.items()}
                mlflow.log_metrics(numbers, model_id=logged.model_id)  # on the run, and on the model
            if not self._client.search_registered_models(f"name='{self.name}'"):
                self._client.create_registered_model(self.name, description=ABOUT)
            created = self._client.create_model_version(
                self.name,
                source=logged.model_uri,
                run_id=run.info.run_id,
                tags=dict(tags),
                model_id=logged.model_id,
                description=told.card,
            )
            # A server does so by itself; without it the model's page says "not registered".
            link = json.dumps([{"name": created.name, "version": created.version}])
            self._client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
            return _version(created)


class _OnnxFiles:
    """MLflow's ONNX flavour without pyfunc: MLflow's own would write the graph again, so that its digest changes."""

    @staticmethod
    def save_model(path: str, mlflow_model: Any, folder: Path, model_file: str, signature: Any) -> None:
        import onnx

        shutil.copytree(folder, path)
        mlflow_model.signature = signature
        mlflow_model.add_flavor(
            "onnx", onnx_version=onnx.__version__, data=model_file, providers=["CPUExecutionProvider"]
        )
        mlflow_model.save(str(Path(path, "MLmodel")))


def _version(entry: Any) -> Version:
    created = datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC)
    return Version(int(entry.version), created, entry.run_id, dict(entry.tags))


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """MLflow's failures as one sentence, without credentials."""
    try:
        yield
    except mlflow_server.failures() as error:
        message = mlflow_server.first_line(error)
        hint = ""
        if "401" in message or "not authenticated" in message:
            hint = " (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are right for this server?)"
        raise RegistryError(f"MLflow registry: {doing} failed: {message}{hint}") from error
