"""What a release is: one file that holds it, its manifest, its signatures, its golden images."""
