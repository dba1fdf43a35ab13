"""Detections against ground truth: numbers only, what people look at is `reports`."""
