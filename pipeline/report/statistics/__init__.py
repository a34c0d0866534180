"""Statistics of outcomes: arrays and outcomes of images come in, numbers with intervals go out."""
