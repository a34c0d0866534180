"""Forms of an exported model: one file each, and the file's name is its name on the command line.

``write(model, folder)`` writes a form and returns the name of its main file; ``load(file,
record)`` gives it back as a module, by the tool that the form is for.
"""
