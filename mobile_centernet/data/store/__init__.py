"""The prepared set on disk: shards of JPEGs and COCO annotations, and its export to other formats."""
