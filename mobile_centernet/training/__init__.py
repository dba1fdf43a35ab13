"""The LightningModule and fit()."""
