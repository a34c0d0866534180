"""From outcomes to numbers, tables, figures and one page.

Finished evaluations come in, text and pictures go out. Nothing here runs a network; the job that
writes a report belongs in `stages`.
"""
