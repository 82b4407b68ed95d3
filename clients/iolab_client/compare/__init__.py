"""A comparison: which servers, where they run, and in which order they are loaded."""
