"""Image files in folders by class: which there are, and their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_JUNK = ("Thumbs.db", "desktop.ini")  # of file managers; theirs and those of others may also begin with a dot
MODES = {"1": "L", "L": "L", "P": "RGB", "LA": "RGB", "RGB": "RGB", "RGBA": "RGB"}  # of images -> what is read of them

Pixels = npt.NDArray[np.uint8]


def shown(folder: Path) -> list[Path]:
    """What a folder holds, in order, without what is hidden."""
    return sorted(each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in _JUNK)


def images_in(folder: Path, field: str) -> list[Path]:
    """The images of a class, by name. Raises `UsageError` where it holds anything else, which would be left out."""
    files = shown(folder) if folder.is_dir() else []
    other = [each for each in files if not each.is_file() or each.suffix.lower() not in IMAGES]
    if other:
        raise UsageError(
            f"{field}: {folder} holds {len(other)} of {len(files)} things that are no image file, such as "
            f"{other[0].name}: give {', '.join(IMAGES)}, all in the folder of their class, and take out the rest."
        )
    return files


def read_image(path: Path, field: str, *, opaque: bool = False, size: int | None = None, mode: str = "") -> Pixels:
    """(C, H, W) pixels 0 to 255: one channel of grey images, three of coloured ones.

    Args:
        path: the file.
        field: the option or field that names it, for messages.
        opaque: refuse an image that is transparent in part; else its colours are read without regard to that.
        size: scale it, after the middle square was cut out, to so many pixels a side.
        mode: "L" or "RGB": what to make of it, whatever it is; "": what it is.

    Raises:
        UsageError: it is no image of 8 bits a channel.
    """
    return decoded(path, f"{field}: {path}", opaque=opaque, size=size, mode=mode)


def decoded(
    file: Path | IO[bytes],
    named: str,
    *,
    opaque: bool = False,
    size: int | None = None,
    mode: str = "",
    upright: bool = False,
) -> Pixels:
    """(C, H, W) pixels of the image in a file or buffer, see `read_image`; ``named`` begins the sentence of an error.

    ``upright``: turn it as its camera says.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            found = mode_of(image, named)
            if opaque and transparent(image):
                raise UsageError(f"{named} is transparent in part: put it on a background.")
            read = (ImageOps.exif_transpose(image) if upright else image).convert(mode or found)
            if size is not None:
                read = ImageOps.fit(read, (size, size), Image.Resampling.BOX)
            values: npt.NDArray[Any] = np.array(read, np.uint8)
    except UsageError:
        raise
    except Exception as error:  # of any decoder; of PIL where an image is too large
        raise _unreadable(named, error) from None
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def header(path: Path, field: str) -> tuple[str, tuple[int, int]]:
    """What an image is read as, "L" or "RGB", and its width and height, without its pixels. Raises `UsageError`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return mode_of(image, f"{field}: {path}"), image.size
    except UsageError:
        raise
    except Exception as error:
        raise _unreadable(f"{field}: {path}", error) from None


def _unreadable(named: str, error: Exception) -> UsageError:
    return UsageError(f"{named} cannot be read as an image ({type(error).__name__}): mend it, or take it out.")


def mode_of(image: Image, named: str) -> str:
    """What an open image is read as: "L" or "RGB". Raises `UsageError` where it has no 8 bits a channel, or frames."""
    if image.mode not in MODES:  # of 16 bits, say, which a conversion clips at 255
        raise UsageError(
            f"{named} is an image of mode {image.mode}: give 8-bit images of mode {', '.join(MODES)}, or "
            "an .npz with x as the network takes it."
        )
    if any(_wide(tile) for tile in getattr(image, "tile", ())):
        raise UsageError(
            f"{named} has 16 bits a channel, of which half would be lost: convert it to 8 bits, or give an "
            ".npz with x as the network takes it."
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's .jpg may hold a preview as well
        raise UsageError(f"{named} holds {frames} images, pages or frames: give each its own file.")
    return MODES[image.mode]


def _wide(tile: Any) -> bool:
    """Whether the decoder of a tile is told to read 16 bits a channel, whatever the mode ("RGB;16B", "LA;16B")."""
    raw = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
    return isinstance(raw, str) and ";16" in raw


def transparent(image: Image) -> bool:
    """Whether an open image is transparent in part."""
    if image.mode not in ("LA", "RGBA") and "transparency" not in image.info:
        return False
    return bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())
