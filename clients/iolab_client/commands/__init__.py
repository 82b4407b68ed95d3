"""One module per command, each with one click command in it; `__main__` assembles them."""
