"""From outcomes to numbers, tables, figures and one page.

Finished evaluations come in; text and figures go out. The job that writes a report is
`pipeline.stages.report`.
"""
