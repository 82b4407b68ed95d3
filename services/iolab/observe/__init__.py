"""What a server shows to the outside: /healthz, /metrics and /threads."""
