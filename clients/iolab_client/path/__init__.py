"""What a proxy, tunnel or port forward does to the connections that go through it, seen from both of its sides."""
