"""Checks whether sections of the configuration fit each other, before anything is loaded.

Sections come in. Where they do not fit, an error names the key and the remedy.
"""
