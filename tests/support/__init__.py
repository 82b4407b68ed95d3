"""Servers to test, on two targets, and what the tests share."""
