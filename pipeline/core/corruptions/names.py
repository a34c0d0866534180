"""The nineteen common corruptions by name (Hendrycks and Dietterich, 2019), in their order.

This module has no REVISION, because it changes no number.
"""

BENCHMARK = (  # those that a mean corruption error is over
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
)
CORRUPTIONS = (*BENCHMARK, "speckle_noise", "gaussian_blur", "spatter", "saturate")
