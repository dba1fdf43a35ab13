"""A model card from what the manifest knows: for a person who finds a release on a device."""

from collections.abc import Iterable, Sequence

from mobile_centernet.bundle.manifest import Manifest


def model_card(manifest: Manifest) -> str:
    """Markdown. `manifest` need not list the card itself yet."""
    height, width = manifest.input_size
    sections = [
        f"# {manifest.name} {manifest.version}, release {manifest.release}",
        f"Finds {', '.join(manifest.classes)} in a camera's picture and draws a box around each. The picture may have "
        f"any size; it is stretched to {width}x{height}.",
        "## Files",
        _table(
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
        _table(("class", "least score"), ((name, f"{manifest.thresholds[name]:g}") for name in manifest.classes)),
        "## Latency budget",
        _table(("device profile", "ms a picture"), ((k, f"{v:g}") for k, v in sorted(manifest.latency_ms.items()))),
        "## Where it comes from",
        _table(("what", "value"), sorted(manifest.lineage.items())) if manifest.lineage else "Nothing was recorded.",
        "## Limits",
        "Scores rank detections; they are no probabilities. It was measured only on what the table above names, and "
        "says nothing about other cameras, countries or weather. It is not made to be the only safeguard of anything.",
    ]
    return "\n\n".join(sections) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
