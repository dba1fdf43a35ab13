"""Footage from the field: which frames are worth a label, and where they wait; no torch, no network."""
