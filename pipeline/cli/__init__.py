"""The command line: arguments come in, a verb runs, text is printed.

What a verb does belongs in the rooms below.
"""
