"""Whether entries of the configuration fit each other, asked before anything loads.

Sections come in; an error names the file, the key and the remedy, or nothing goes out.
"""
