"""How a verb is added to the command line, and the options of verbs on finished models."""
