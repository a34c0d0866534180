"""From an entry of the configuration to a planned artefact: one file a section.

Each has ``entry(resolver, name)``, which gets what the entry is made from by its name, checks how
they fit, and returns the artefact's ``Entry``.
"""
