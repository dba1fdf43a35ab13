"""Detection and distillation losses."""
