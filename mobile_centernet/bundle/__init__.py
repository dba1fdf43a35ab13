"""What a release is: one file that holds it, its manifest, its golden images."""
