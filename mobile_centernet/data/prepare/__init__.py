"""Raw frames into the prepared set: subsampled, checked, shrunk, stored; a killed run resumes."""
