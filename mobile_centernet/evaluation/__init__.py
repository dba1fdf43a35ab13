"""Detections against ground truth: mAP@0.5, plots, the report."""
