"""A claim on trial: what it is, what it is measured with, and what was found. The claims are in `experiments`."""
