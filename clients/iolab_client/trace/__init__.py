"""A timeline: what each thread of a server waits in while some clients ask it, drawn from strace(1)'s text."""
