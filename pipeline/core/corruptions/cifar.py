"""The nineteen corruptions of CIFAR-10-C with its parameters (Hendrycks and Dietterich, 2019).

Rewritten from the parameters and operations of `make_cifar_c.py`, the published generator, with
the image's own side in place of 32. The noise is drawn from a given generator. Motion is blurred by
imagecorruptions' copy of ImageMagick's kernel, with ImageMagick's rounding.

Compared with the published code on ten images of CIFAR-10 at all severities, with the same draws:
equal to the bit, but for one value of `spatter` at severity 3, which is off by one level, and for
`impulse_noise`, `glass_blur` and `fog`, which draw in another order. Motion was blurred there by
ImageMagick 6.9.11.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.corruptions.cifar_strengths import STRENGTHS

REVISION = 2

ZOOM_STEP = 0.01
FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
FROST_SCALE = 0.2
FINE = 257  # 16-bit levels in one of 8 bits
MAX_KERNEL_DISTANCE = 20  # of spatter: distances to an edge are cut there
WATER, MUD = (175 / 255, 238 / 255, 238 / 255), (63 / 255, 42 / 255, 20 / 255)


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """An image (H,W,3) uint8 corrupted at a severity of 1 to 5; same shape and type.

    `fog` draws from numpy's global generator as well, which is seeded here.
    """
    np.random.seed(seed)
    change, strength = CORRUPTIONS[name], STRENGTHS[name][severity - 1]
    return np.asarray(change(image, strength, np.random.default_rng(seed))).astype(np.uint8)


def gaussian_noise(image: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Adds normal noise."""
    return to_levels(image / 255 + rng.normal(size=image.shape, scale=scale))


def shot_noise(image: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Counts photons."""
    return to_levels(rng.poisson(image / 255 * photons) / photons)


def impulse_noise(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Sets values to 0 or 1."""
    from skimage.util import random_noise

    return to_levels(random_noise(image / 255, mode="s&p", amount=amount, rng=rng))


def speckle_noise(image: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies by normal noise."""
    x = image / 255
    return to_levels(x + x * rng.normal(size=x.shape, scale=scale))


def gaussian_blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blurs by a normal kernel."""
    return to_levels(smooth(image / 255, sigma))


def glass_blur(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Blurs, swaps pixels with near ones, and blurs again."""
    from imagecorruptions.corruptions import _shuffle_pixels_njit_glass_blur as shuffle_pixels

    x = (smooth(image / 255, strength[0]) * 255).astype(np.uint8)
    x = shuffle_pixels(*x.shape[:2], x, strength, int(rng.integers(2**32)))
    return to_levels(smooth(x / 255, strength[0]))


def defocus_blur(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Blurs by a disk."""
    import cv2
    from imagecorruptions.corruptions import disk

    kernel = disk(radius=strength[0], alias_blur=strength[1])
    planes = [cv2.filter2D(plane, -1, kernel) for plane in np.moveaxis(image / 255, 2, 0)]
    return to_levels(np.stack(planes, axis=2))


def motion_blur(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Blurs along a line within 45 degrees of the horizontal."""
    radius, sigma = strength
    return blur_motion(image, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(image: np.ndarray, end: float, rng: np.random.Generator) -> np.ndarray:
    """Averages the image with itself enlarged."""
    x, zooms = (image / 255).astype(np.float32), np.arange(1, end, ZOOM_STEP)
    return to_levels((x + sum(enlarge(x, zoom) for zoom in zooms)) / (len(zooms) + 1))


def fog(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Adds a plasma fractal."""
    from imagecorruptions.corruptions import next_power_of_2, plasma_fractal

    (height, width), (amount, decay) = image.shape[:2], strength
    x = image / 255
    plasma = plasma_fractal(next_power_of_2(max(height, width)), decay)[:height, :width, None]
    return to_levels((x + amount * plasma) * x.max() / (x.max() + amount))


def frost(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Adds a part of a photograph of frost."""
    import cv2
    import imagecorruptions

    folder = Path(imagecorruptions.__file__).parent / "frost"
    ice: Any = cv2.imread(str(folder / FROST_FILES[rng.integers(len(FROST_FILES))]))
    ice = cv2.resize(ice, (0, 0), fx=FROST_SCALE, fy=FROST_SCALE)
    (height, width), (own, other) = image.shape[:2], strength
    top, left = (rng.integers(0, ice.shape[axis] - image.shape[axis]) for axis in (0, 1))
    ice = ice[top : top + height, left : left + width, ::-1]
    return np.clip(own * image + other * ice, 0, 255)


def snow(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Adds flakes that fall in one direction, on a whitened image."""
    import cv2

    mean, deviation, zoom, threshold, radius, sigma, own = strength
    flakes = enlarge(rng.normal(size=image.shape[:2], loc=mean, scale=deviation)[..., None], zoom)
    flakes = np.where(flakes < threshold, 0, flakes)[..., 0]
    flakes = (np.clip(flakes, 0, 1) * 255).astype(np.uint8)
    flakes = blur_motion(flakes, radius, sigma, rng.uniform(-135, -45))[..., None] / 255
    x = image.astype(np.float32) / 255
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = own * x + (1 - own) * np.maximum(x, grey * 1.5 + 0.5)
    return to_levels(x + flakes + np.rot90(flakes, k=2))


def spatter(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Adds drops of water or mud."""
    from skimage.filters import gaussian

    mean, deviation, sigma, threshold, amount, is_mud = strength
    x = image.astype(np.float32) / 255
    liquid = gaussian(rng.normal(size=x.shape[:2], loc=mean, scale=deviation), sigma=sigma)
    liquid[liquid < threshold] = 0
    if is_mud:
        mud = gaussian((liquid > threshold).astype(np.float32), sigma=amount)
        mud = np.where(mud < 0.8, 0, mud)[..., None]
        return to_levels(x * (1 - mud) + np.array(MUD, np.float32) * mud)
    drops = shade_drops((liquid * 255).astype(np.uint8))
    # without a drop the published code divides by zero; here the image stays as it is
    drops *= amount / max(float(drops.max()), float(np.finfo(np.float32).tiny))
    return to_levels(x + drops[..., None] * np.array(WATER, np.float32))


def shade_drops(liquid: np.ndarray) -> np.ndarray:
    """Brightness (H,W) of drops of water, from their layer (H,W) uint8."""
    import cv2

    distance: Any = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(
        distance, MAX_KERNEL_DISTANCE, MAX_KERNEL_DISTANCE, cv2.THRESH_TRUNC
    )
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    distance = cv2.blur(cv2.filter2D(distance, cv2.CV_8U, relief), (3, 3))
    return liquid * distance.astype(np.float32)


def contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrinks differences from each colour's mean."""
    x = image / 255
    means = x.mean(axis=(0, 1), keepdims=True)
    return to_levels((x - means) * factor + means)


def brightness(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Raises the value of HSV."""
    return change_hsv(image, 2, 1, amount)


def saturate(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Scales and raises the saturation of HSV."""
    return change_hsv(image, 1, *strength)


def jpeg_compression(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Writes it as JPEG and reads it."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def pixelate(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Makes it smaller and as large as it was."""
    height, width = image.shape[:2]
    small = (int(width * share), int(height * share))
    whole = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(whole.resize((width, height), Image.Resampling.BOX))


def elastic_transform(image: np.ndarray, strength: tuple, rng: np.random.Generator) -> np.ndarray:
    """Moves three corners by chance, then every pixel by smooth noise."""
    import cv2
    from scipy.ndimage import map_coordinates
    from skimage.filters import gaussian

    x, shape = image.astype(np.float32) / 255, image.shape[:2]
    amplitude, sigma, shift = (min(shape) * share for share in strength)
    center, third = np.array(shape, np.float32) // 2, min(shape) // 3
    last = [center[0] + third, center[1] - third]
    corners = np.array([center + third, last, center - third], np.float32)
    moved = corners + rng.uniform(-shift, shift, size=corners.shape).astype(np.float32)
    bent: Any = cv2.warpAffine(
        x,
        cv2.getAffineTransform(corners, moved),
        shape[::-1],
        borderMode=cv2.BORDER_REFLECT_101,
    )
    right, down = (
        gaussian(rng.uniform(-1, 1, size=shape), sigma, mode="reflect", truncate=3) * amplitude
        for _ in range(2)
    )
    rows, columns, planes = np.indices(image.shape).astype(float)
    places = (
        rows + down.astype(np.float32)[..., None],
        columns + right.astype(np.float32)[..., None],
        planes,
    )
    return to_levels(map_coordinates(bent, places, order=1, mode="reflect"))


def to_levels(x: np.ndarray) -> np.ndarray:
    """Values in [0,1], clipped, as grey levels up to 255."""
    return np.clip(x, 0, 1) * 255


def smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """An image (H,W,3) blurred within each colour."""
    from skimage.filters import gaussian

    return gaussian(x, sigma=sigma, channel_axis=-1)


def blur_motion(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Grey levels blurred along a line at an angle in degrees, cut to whole levels.

    ImageMagick rounds to 16 bits and drops the fraction of a level when it writes 8.
    """
    from imagecorruptions.corruptions import _motion_blur as blur

    levels = blur(x.astype(np.float64), radius=radius, sigma=sigma, angle=angle)
    return np.clip(np.round(levels * FINE) // FINE, 0, 255)


def enlarge(x: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of an image (H,W,C), enlarged to its size."""
    from scipy.ndimage import zoom as enlarge_array

    cut = [int(np.ceil(side / zoom)) for side in x.shape[:2]]
    top, left = ((side - kept) // 2 for side, kept in zip(x.shape[:2], cut, strict=True))
    middle = x[top : top + cut[0], left : left + cut[1]]
    large = enlarge_array(middle, (zoom, zoom, 1), order=1)
    top, left = ((big - side) // 2 for big, side in zip(large.shape[:2], x.shape[:2], strict=True))
    return large[top : top + x.shape[0], left : left + x.shape[1]]


def change_hsv(image: np.ndarray, plane: int, factor: float, amount: float) -> np.ndarray:
    """An image with one plane of HSV scaled and raised."""
    from skimage.color import hsv2rgb, rgb2hsv

    x = rgb2hsv(image / 255)
    x[:, :, plane] = np.clip(x[:, :, plane] * factor + amount, 0, 1)
    return to_levels(hsv2rgb(x))


CORRUPTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    change.__name__: change
    for change in (
        *(gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur),
        *(zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate),
        *(jpeg_compression, speckle_noise, gaussian_blur, spatter, saturate),
    )
}
