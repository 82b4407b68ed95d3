"""The claims: one file each, and nothing else. `pool_cap` is the smallest, and the template for a new one.

A module has the five fields in its docstring, `SHOWS` (what is drawn and tabled), `measure(bench)` and `judge(seen)`.
"""
