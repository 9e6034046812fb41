"""Images of any bytes are read or refused in one line with their path, alike in training and by the API."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from minidassl.own.image_cache import read_image

import numpy as np
import pytest
from dataset_trees import write_classes
from PIL import Image

from trainers.prompting.api.images import list_of, open_image
from trainers.prompting.errors import InputError

ROOT = Path(__file__).parents[2]
LEVELS = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)  # over the whole range of 16 bits


def refused_by_both(path: Path) -> str:
    """The message of both readers about an image, each of one line with its path."""
    messages = []
    for read, kind in ((read_image, OSError), (open_image, InputError)):
        with pytest.raises(kind) as error:
            read(path)
        messages.append(str(error.value))
        assert str(path) in messages[-1] and "\n" not in messages[-1]
    assert "SKIP_BROKEN" in messages[0]
    return messages[1]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_of_grey_are_scaled_to_8_alike_in_training_and_by_the_api(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(LEVELS).save(path)
    for image in (read_image(path), open_image(path), open_image(Image.open(path))):
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.repeat((LEVELS // 256)[..., None], 3, axis=2))
    list_of([path])


def test_16_bits_in_the_other_order_of_bytes_are_scaled_too(tmp_path):
    path = tmp_path / "image.tif"
    Image.frombytes("I;16B", (8, 8), LEVELS.astype(">u2").tobytes()).save(path)
    assert Image.open(path).mode == "I;16B"
    assert np.array_equal(np.asarray(read_image(path))[..., 0], LEVELS // 256)


@pytest.mark.parametrize("kind, mode", [(np.float32, "F"), (np.int32, "I")], ids=str)
def test_32_bits_have_no_known_range_and_are_refused_by_name(tmp_path, kind, mode):
    path = tmp_path / "image.tif"
    Image.fromarray(LEVELS.astype(kind)).save(path)
    assert f"32 bits per pixel (Pillow's mode {mode})" in refused_by_both(path)
    with pytest.raises(InputError, match="32 bits"):
        list_of([path])
    with pytest.raises(InputError, match="Image 3 .*32 bits"):
        open_image(Image.open(path), 3)


def png_of_size(path: Path, side: int) -> None:
    """A PNG of a few bytes that claims to have side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(data + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
def test_a_few_bytes_that_stand_for_gigabytes_of_pixels_are_refused(tmp_path, side):
    path = tmp_path / "bomb.png"
    png_of_size(path, side)
    assert "pixels" in refused_by_both(path)
    with pytest.raises(InputError, match="pixels"):
        list_of([path])


def test_a_bomb_is_one_line_without_pillows_warning(tmp_path):
    png_of_size(tmp_path / "bomb.png", 10_000)
    code = "import sys; from minidassl.own.image_cache import read_image; read_image(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "bomb.png"], capture_output=True, text=True, cwd=ROOT
    )
    assert "UnreadableImage: Cannot read" in done.stderr and "Warning" not in done.stderr


def test_a_half_image_that_the_caller_has_opened_is_refused_where_it_is_decoded(tmp_path):
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="Image 2 cannot be used: .*truncated.*; it is cut off or damaged: copy or"):
        open_image(Image.open(path), 2)


def images_of_all_formats(folder: Path) -> list[Path]:
    noise = Image.effect_noise((32, 24), 60)
    paths = []
    for suffix in ("bmp", "gif", "jpg", "png", "ppm", "tif", "webp"):
        paths.append(folder / f"image.{suffix}")
        noise.convert("RGB").save(paths[-1])
    paths.append(folder / "deep.png")
    Image.fromarray(LEVELS).save(paths[-1])
    return paths


@pytest.mark.filterwarnings("ignore")  # of Pillow, on damaged metadata
def test_hundreds_of_damaged_images_are_read_or_refused_alike_by_both(tmp_path):
    rng, refused, total = random.Random(1), 0, 0
    for path in images_of_all_formats(tmp_path):
        sound = path.read_bytes()
        for _ in range(30):
            damaged = bytearray(sound)
            for _ in range(rng.randint(1, 6)):
                damaged[rng.randrange(min(len(damaged), 200))] = rng.randrange(256)
            path.write_bytes(damaged[: rng.choice((len(damaged), rng.randrange(len(damaged))))])
            total += 1
            try:
                pixels = np.asarray(read_image(path))
            except OSError:
                refused += 1
                refused_by_both(path)
            else:
                assert np.array_equal(np.asarray(open_image(path)), pixels)
    assert total / 4 < refused < total


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_image_ends_training_in_one_line_with_path_cause_and_remedy(run_train, tmp_path, workers):
    data = tmp_path / "data"
    write_classes(data, "oak", "beech", "elm", "fir", images=12)
    for path in data.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    options = ("DATASET.NAME", "ImageFolder", "DATASET.ROOT", str(data), "DATALOADER.NUM_WORKERS", workers)
    outcome = run_train(options=(*options, "DATALOADER.CACHE_GB", "0"))
    assert outcome.status == 2
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and outcome.errors.rstrip().endswith(errors[0])
    assert f'error: Cannot read the image "{data}' in errors[0]
    assert "SKIP_BROKEN" in errors[0] and "Traceback" not in outcome.errors
