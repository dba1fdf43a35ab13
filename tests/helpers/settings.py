"""Writing an agent's settings."""

import json
from collections.abc import Mapping


def to_toml(document: Mapping[str, Mapping[str, object]]) -> str:
    """JSON's texts, numbers, lists and booleans are TOML's too."""
    sections = [
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())])
        for name, values in document.items()
    ]
    return "\n\n".join(sections) + "\n"
