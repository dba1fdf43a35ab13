"""What the report is made of: records that other stages left, pictures of frames, and where it all comes from."""
