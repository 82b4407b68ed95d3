"""The life of a server process, and all models as plain processes on this machine."""
