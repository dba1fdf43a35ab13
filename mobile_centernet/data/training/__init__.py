"""From the prepared set to training batches: augmentation, targets, sampling, pseudo-labels."""
