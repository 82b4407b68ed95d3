"""A server that misbehaves on command, for tests of clients."""
