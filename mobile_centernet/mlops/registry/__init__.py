"""Versions of the model in MLflow and their files."""
