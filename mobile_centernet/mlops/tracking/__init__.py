"""A run's record on disk first, MLflow as far as it answers."""
