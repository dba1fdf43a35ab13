"""A model card from what the manifest knows: for a person who finds a release on a device."""

from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.tables import markdown_table


def model_card(manifest: Manifest) -> str:
    """Markdown. `manifest` need not list the card itself yet."""
    height, width = manifest.input_size
    thresholds = [(name, f"{manifest.thresholds[name]:g}") for name in manifest.classes]
    latency = [(profile, f"{limit:g}") for profile, limit in sorted(manifest.latency_ms.items())]
    origin = sorted(manifest.lineage.items())
    sections = [
        f"# {manifest.name} {manifest.version}, release {manifest.release}",
        f"Finds {', '.join(manifest.classes)} in a camera's picture and draws a box around each. The picture may have "
        f"any size; it is stretched to {width}x{height}.",
        "## Files",
        markdown_table(
            ("file", "precision", "MiB", "may differ from the golden detections by"),
            (
                (
                    variant.model,
                    precision,
                    f"{manifest.files[variant.model].bytes / 2**20:.2f}",
                    f"{variant.tolerance.box:g} px, {variant.tolerance.score:g} in score",
                )
                for precision, variant in sorted(manifest.variants.items())
            ),
        ),
        f"Golden pictures: {', '.join(manifest.pictures)}.",
        "## Thresholds",
        markdown_table(("class", "least score"), thresholds),
        "## Latency budget",
        markdown_table(("device profile", "ms a picture"), latency),
        "## Where it comes from",
        markdown_table(("what", "value"), origin) if origin else "Nothing was recorded.",
        "## Limits",
        "Scores rank detections; they are no probabilities. It was measured only on what the table above names, and "
        "says nothing about other cameras, countries or weather. It is not made to be the only safeguard of anything.",
    ]
    return "\n\n".join(sections) + "\n"
