"""ZenML's model versions follow a real MLflow registry."""

import json
from pathlib import Path

from tests.pipelines.toy import make_toy, run


def test_zenml_follows_the_registry_from_the_first_version_to_a_promotion(tmp_path: Path) -> None:
    done = run(make_toy(tmp_path), str(Path(__file__).with_name("mirrored.py")))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second, promoted = json.loads(done.stdout.splitlines()[-1])
    assert first == {"v1": ["production", "challenger, champion"]}
    assert second == {"v1": ["production", "champion"], "v2": ["staging", "challenger"]}
    assert promoted == {"v1": ["archived", "previous"], "v2": ["production", "challenger, champion"]}
