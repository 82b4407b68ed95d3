"""The test suites: what the servers promise, on this machine and in containers."""
