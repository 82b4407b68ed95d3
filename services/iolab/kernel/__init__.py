"""Kernel interfaces that Python does not offer, and what /proc shows."""
