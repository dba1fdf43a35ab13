"""A seeded world of streets, and writers that put it on disk as the raw data sets look."""

from sample.bdd100k import write_bdd100k
from sample.field import write_field
from sample.ivslab import write_ivslab

__all__ = ["write_bdd100k", "write_field", "write_ivslab"]
