"""All that knows MLflow or params.yaml: tracking, the registry, promotion, paths, lineage."""
