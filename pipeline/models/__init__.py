"""Networks on images in [0,1]: classifiers, CLIP, the VQGAN and the generator.

A file of weights comes in, a module goes out, and back. Files that others wrote belong in
`models.pretrained`, plain architectures in `architectures`.
"""
