"""From raw footage to training batches: readers, checks, the prepared store, the loader."""
