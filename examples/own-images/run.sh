#!/bin/sh
# From three classes of forty images to a student that classifies and is exported: run it in an empty folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python3 "$here/write_images.py" photos
retort init --images photos
retort run --cores all
retort results
retort predict student/adaad-0 photos/cat
retort export student/adaad-0 --to hf exported
python3 - <<'PYTHON'
import pipeline
import torch

model = pipeline.load("store/by-name/student/adaad-0")
exported = pipeline.load("exported")
grey = torch.full((1, 3, 32, 32), 0.5)
assert torch.allclose(model(grey), exported(grey), atol=1e-4)
print("the student's logits on a grey image:", model(grey).tolist())
PYTHON
