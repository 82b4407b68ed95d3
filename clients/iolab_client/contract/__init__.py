"""The contract on the wire: the clauses, the check, and the peers and bytes that it uses."""
