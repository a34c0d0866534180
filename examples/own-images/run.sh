#!/bin/sh
# From three classes of forty images to a student that classifies: run it in an empty folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python3 "$here/write_images.py" photos
retort init --images photos
retort run --cores all
retort results
python3 - <<'PYTHON'
import pipeline
import torch

model = pipeline.load("store/by-name/student/adaad-0")
print("the student's logits on a grey image:", model(torch.full((1, 3, 32, 32), 0.5)).tolist())
PYTHON
