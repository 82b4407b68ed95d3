"""What the kernel offers and Python has no name for, and what it tells in /proc."""
