"""iolab: every way a Linux server can wait for its clients, behind one protocol."""
