"""The report: one page with plots, tables and verdicts, made of a run and of nothing else.

The same run makes the same bytes. `page` puts together what `charts` draws in the colours of `palette`; `versus` is
about two runs.
"""
