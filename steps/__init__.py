"""The stages of the pipeline, one file for each family of them, and nothing else."""
