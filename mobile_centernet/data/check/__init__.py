"""What is wrong with a set of images and labels: read, really decode, compare, report; nothing is changed."""
