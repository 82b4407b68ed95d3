"""Ring 1: one accepted connection, with one file for each way of moving its bytes."""
