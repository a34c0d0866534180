"""Common corruptions of one image: an array (H,W,3) uint8 comes in and goes out."""
