"""Raw data sets, each in its own layout, as frames with boxes."""
