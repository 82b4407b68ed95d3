"""Where servers are, and what their admin ports show."""
