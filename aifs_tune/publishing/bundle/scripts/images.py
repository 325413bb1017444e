"""Images, prepared as those that the model learnt from."""

import numpy as np
from PIL import Image
from reading import UnreadableError

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")


def examples_in(file, settings):
    """Name of the image in a file, and the input of the model."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            pixels = pixels_of(image, file, settings)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow raises errors of many types on damaged files
        raise UnreadableError(f"is no image of a known format, or damaged ({error})") from error
    if pixels.dtype != np.uint8:  # 16 bits
        if settings["range16"] is None:
            raise UnreadableError("has 16 bits a pixel, and the model learnt from images with 8")
        low, high = settings["range16"]
        pixels = np.rint((pixels.astype(np.float32) - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return [str(file)], (np.broadcast_to(pixels, settings["image"])[np.newaxis],)


def pixels_of(image, file, settings):
    """Pixels (size, size, channels): uint8, or uint16 of a grey image with 16 bits."""
    if image.width * image.height > 64_000_000:
        raise UnreadableError("has more than 64,000,000 pixels")
    if image.format == "TIFF":
        check_tiff(file)
    elif image.format not in ("MPO", "GIF", "WEBP") and getattr(image, "n_frames", 1) != 1:
        raise UnreadableError("has several frames")
    size, _, n_channels = settings["image"]
    if image.format == "PNG" and image.mode[0] != "I" and file.read_bytes()[24] == 16:
        raise UnreadableError("has colours of 16 bits")
    image.draft(image.mode, (2 * size, 2 * size))  # a JPEG is made smaller while it is read
    if image.mode.startswith("I"):
        whole = image.convert("I")
        if not 0 <= whole.getextrema()[0] <= whole.getextrema()[1] <= 65535:
            raise UnreadableError("has pixel values outside 0 to 65535")
        return np.asarray(fitted(whole, size, settings["fit"])).clip(0, 65535).astype(np.uint16)[:, :, np.newaxis]
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
        raise UnreadableError(f"has the pixel mode {image.mode}")
    if image.has_transparency_data:  # black behind it
        values = np.asarray(fitted(image.convert("RGBA"), size, settings["fit"])).astype(np.uint16)
        made = Image.fromarray(((values[..., :3] * values[..., 3:] + 127) // 255).astype(np.uint8))
    else:
        made = fitted(image.convert("L" if image.mode in ("1", "L") else "RGB"), size, settings["fit"])
    pixels = np.asarray(made)
    if n_channels == 1 and pixels.ndim == 3:
        is_grey = (pixels == pixels[..., :1]).all()
        pixels = pixels[..., 0] if is_grey else np.asarray(made.convert("L"))
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def fitted(image, size, fit):
    """The image as a square of ``size`` pixels."""
    width, height = image.size
    if fit == "crop":
        edge = min(width, height)
        box = ((width - edge) / 2, (height - edge) / 2, (width + edge) / 2, (height + edge) / 2)
        return image.resize((size, size), Image.Resampling.BILINEAR, box, 3.0)
    if fit == "stretch" or width == height:
        return image.resize((size, size), Image.Resampling.BILINEAR, None, 3.0)
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new(image.mode, (size, size))
    made = image.resize(inner, Image.Resampling.BILINEAR, None, 3.0)
    square.paste(made, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square


def check_tiff(file):
    """Refuse a TIFF that holds more than one plain image of unsigned numbers."""
    try:
        import tifffile
    except ImportError:
        raise UnreadableError("is a TIFF; to read it: pip install tifffile") from None
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0]
        bits = 16 if page.samplesperpixel == 1 else 8
        is_one = len(opened.pages) == len(opened.series) == 1 and opened.series[0].size == page.size
        if not is_one or page.dtype is None or page.dtype.kind != "u" or 8 * page.dtype.itemsize > bits:
            raise UnreadableError("is no single TIFF image of 8 bits, or grey of 16 bits; predict it with aifs-tune")
