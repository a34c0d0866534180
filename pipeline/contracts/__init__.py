"""What a plug-in of each kind must state: checked when its file is read, before anything runs.

A file or a value comes in; a line that says what is missing goes out. `trials` runs plug-ins on
tiny networks.
"""
