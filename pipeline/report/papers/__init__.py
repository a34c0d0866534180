"""The papers' printed tables beside the numbers of a report.

A table's name and a study come in; a `Comparison` goes out, which is plain data, and its text in
Markdown, HTML, CSV and LaTeX. The printed values are the CSV files of this folder.
"""
