"""What the run's report is made of: other stages' records, images of frames, where it all comes from."""
