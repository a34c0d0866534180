"""Network families, one file each; models.py finds them by the shape of a model's name."""
