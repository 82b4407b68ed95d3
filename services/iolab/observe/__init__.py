"""What is seen of a server from outside: /healthz, /metrics and /threads."""
