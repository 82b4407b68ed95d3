"""A supervisor and its children, for the models that serve in several processes."""
