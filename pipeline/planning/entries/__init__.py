"""From a section of the configuration to a planned artefact: one file for each kind.

The files of ``SECTION_MODULES`` have ``plan_artefact(resolver, name)``. It resolves the inputs by
name, checks that they fit, and returns a ``PlannedArtefact``.
"""
