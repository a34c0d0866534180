"""One job for each kind of artefact: ``run(job)`` makes it in its folder.

A job file comes in, files and facts for the manifest go out. What stages share belongs in the rooms
below.
"""
