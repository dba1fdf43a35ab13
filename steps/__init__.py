"""One module per pipeline stage: binds params.yaml, workspace paths and MLflow to library calls."""
