"""The report's page: one HTML file that needs nothing beside it.

A study, its results and Markdown sections come in; the text of the file goes out. Tables are
DataTables', charts are Plotly's; both libraries travel in the file.
"""
