"""The contract on the wire: the clauses, who examines them, and the peers and bytes they are examined with."""
