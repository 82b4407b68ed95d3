"""Answers by way of a broker: the server's side, the worker's side, and a server's own broker."""
