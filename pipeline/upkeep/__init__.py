"""Verbs on a whole store: list, check, prune, ship, compare with today's code.

A store comes in, lines to print or a smaller store go out. What concerns one artefact belongs in
`store`.
"""
