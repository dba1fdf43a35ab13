"""What ZenML has to find in the environment before it is imported: a store of this project's own, and silence."""

import os
import sys
from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
CONFIG = Path(".work/zenml")


def prepare_environment() -> None:
    """ZenML's settings and database under .work/zenml of the current directory; no usage reports, no browser.

    A variable that is set already stays: with ZENML_CONFIG_PATH a team points at its own configuration.
    """
    defaults = {
        "ZENML_CONFIG_PATH": str(CONFIG.resolve()),
        "ZENML_CUSTOM_SOURCE_ROOT": str(CODE),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "AUTO_OPEN_DASHBOARD": "false",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    Path(os.environ["ZENML_CONFIG_PATH"]).mkdir(parents=True, exist_ok=True)
    # A stage's command says `python`: it shall be the interpreter that runs this.
    tools = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != tools:
        os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
