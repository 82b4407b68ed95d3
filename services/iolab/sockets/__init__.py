"""Ring 1: one accepted connection, a file for each way of moving its bytes."""
