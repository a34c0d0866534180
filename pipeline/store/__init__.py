"""One artefact on disk: its manifest, checkpoint, lease, timing, logs and the code that made it.

A folder comes in; an opened artefact or a finished manifest goes out. Verbs on a store of many
artefacts belong in `upkeep`.
"""
