"""What is wrong with a set of pictures and labels: read, really decode, compare, report; nothing is changed."""
