"""What people look at: pages, plots, drawings. Numbers come from `evaluation`."""
