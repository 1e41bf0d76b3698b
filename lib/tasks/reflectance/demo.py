"""The demo set: simulated specimens with several views each, made by one command that can be stopped and started again.

    python -m lib.tasks.reflectance.demo --output data/reflectance/demo

A specimen that is finished is kept in the folder `parts`, so that a second call goes on where the first one stopped. At the end
all become one ZIP with `data.csv`, in the columns of laboratories' own files, and images; `recipe.json` beside it says how.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from lib.disk import write_atomic
from lib.task import InputError, Samples
from lib.tasks.reflectance import channels, render, simulate, specimen
from lib.tasks.reflectance.config import CHANNELS, COMMON_NM_PER_PX, IMAGE_PX, TRUE
from lib.tasks.reflectance.scale import KINDS

FOLDER = Path(__file__).parents[3] / "data" / "reflectance" / "demo"
ARCHIVE, RECIPE, TABLE, PARTS = "simulated-scales.zip", "recipe.json", "data.csv", "parts"
IMAGE_COLUMN = "SEM_filenames"
EXAMPLE_TABLE, EXAMPLE_SEED, EXAMPLE_VIEWS = "simulated-scales.csv", 7, 2
EXAMPLES = (4, 5, 6)  # numbers of specimens: pierid yellow, morpho, papilionid
STAMP = (2026, 1, 1, 0, 0, 0)  # of every file in the ZIP: the same set is the same bytes
DECIMALS = {"nm_per_px": 3} | dict.fromkeys(CHANNELS, 5)


@dataclass(frozen=True)
class Recipe:
    """What the set is made of. The same recipe makes the same set."""

    specimens: int = 500
    views: int = 3
    seed: int = 0
    nm_per_px: float = COMMON_NM_PER_PX
    jpeg_quality: int = 80

    def told(self) -> dict[str, Any]:
        """The recipe in words and numbers, as recipe.json holds it."""
        return {
            "about": "Simulated scanning electron micrographs of butterfly wing scales and their ten optical channels: rigorous "
            "optics of a periodic scale at normal incidence. Not measured.",
            "command": f"python -m lib.tasks.reflectance.demo --specimens {self.specimens} --views {self.views} "
            f"--seed {self.seed} --jpeg-quality {self.jpeg_quality}",
            **vars(self), "kinds": list(KINDS), "image_px": IMAGE_PX,
        }  # fmt: skip


# --- making -----------------------------------------------------------------------------------------------------------
def make(recipe: Recipe, folder: Path, jobs: int = 2) -> Path:
    """The set's ZIP in `folder`, made by `jobs` processes; finished specimens are taken from an earlier, stopped call.

    Raises InputError where the folder holds parts of another recipe.
    """
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    _same_recipe(parts / RECIPE, recipe)
    missing = [number for number in range(recipe.specimens) if not (parts / f"{_name(number)}.json").exists()]
    bar = tqdm(total=recipe.specimens, initial=recipe.specimens - len(missing), unit=" specimens", disable=None)
    with bar, ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(_make_one, recipe, number, parts) for number in missing]):
            done.result()
            bar.update()
    made = _pack(recipe, parts, folder / ARCHIVE)
    write_atomic(folder / RECIPE, json.dumps(recipe.told(), indent=2).encode())
    shutil.rmtree(parts)
    return made


def _same_recipe(kept: Path, recipe: Recipe) -> None:
    """Whether what was begun is of this recipe; notes it where nothing was."""
    if not kept.exists():
        write_atomic(kept, json.dumps(recipe.told()).encode())
    elif json.loads(kept.read_text(encoding="utf-8")) != recipe.told():
        raise InputError(
            str(kept.parent.name), "holds specimens of another recipe", "Give its options again, or remove that folder"
        )


def _name(number: int) -> str:
    return f"s{number:04d}"


def one_specimen(recipe: Recipe, number: int) -> tuple[simulate.Looked, list[np.ndarray]]:
    """A specimen with its channels, and its views (256, 256) uint8; kinds come in turn. Each has random numbers of its own."""
    rng = np.random.default_rng([recipe.seed, number])
    scale = specimen.draw(list(KINDS)[number % len(KINDS)], rng)
    looked = simulate.Looked(_name(number), scale, channels.measure(scale), recipe.nm_per_px)
    return looked, [render.image(scale, rng, recipe.nm_per_px) for _ in range(recipe.views)]


def _make_one(recipe: Recipe, number: int, parts: Path) -> None:
    """One specimen's files; its JSON comes last and says that it is whole."""
    looked, images = one_specimen(recipe, number)
    rows = simulate.table([(looked, view) for view in range(recipe.views)], ".jpg")
    for file, image in zip(rows["file"], images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=recipe.jpeg_quality, optimize=True)
        write_atomic(parts / file, buffer.getvalue())
    write_atomic(parts / f"{looked.name}.json", json.dumps(rows.to_dict("records")).encode())


def make_examples(folder: Path) -> list[Path]:
    """A few specimens as a laboratory keeps them, a CSV beside PNG images: what the sample button takes. Not of the set."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(views=EXAMPLE_VIEWS, seed=EXAMPLE_SEED)
    made, tables = [], []
    for number in EXAMPLES:
        looked, images = one_specimen(recipe, number)
        looked = replace(looked, name="example-" + looked.scale.kind.replace(" ", "-"))
        rows = simulate.table([(looked, view) for view in range(recipe.views)], ".png")
        for file, image in zip(rows["file"], images):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", optimize=True)
            write_atomic(folder / file, buffer.getvalue())
            made.append(folder / file)
        tables.append(rows)
    write_atomic(folder / EXAMPLE_TABLE, as_csv(pd.concat(tables, ignore_index=True), folder=""))
    return [folder / EXAMPLE_TABLE, *made]


def _pack(recipe: Recipe, parts: Path, archive: Path) -> Path:
    """All parts as one ZIP, images as they are."""
    told = [json.loads((parts / f"{_name(number)}.json").read_text(encoding="utf-8")) for number in range(recipe.specimens)]
    rows = pd.DataFrame([row for specimen_rows in told for row in specimen_rows])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        _add(file, TABLE, as_csv(rows).encode(), zipfile.ZIP_DEFLATED)
        for name in rows["file"]:
            _add(file, f"images/{name}", (parts / name).read_bytes(), zipfile.ZIP_STORED)
    write_atomic(archive, buffer.getvalue())
    return archive


def _add(file: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, STAMP)
    entry.compress_type = method
    file.writestr(entry, content)


def as_csv(rows: pd.DataFrame, folder: str = "images/") -> str:
    """A table of samples in the columns of laboratories' files: image in its folder, ten channels, then what else is known."""
    renamed = rows.rename(columns={TRUE + name: name for name in CHANNELS}).drop(columns="note")
    renamed = renamed.assign(file=folder + renamed["file"].astype(str), simulated="true").rename(columns={"file": IMAGE_COLUMN})
    first = [IMAGE_COLUMN, *CHANNELS]
    ordered = renamed[[*first, *(name for name in renamed.columns if name not in first)]].round(DECIMALS)
    for name in ordered.select_dtypes("float").columns.difference(list(DECIMALS)):
        ordered[name] = ordered[name].map("{:.6g}".format)
    return str(ordered.to_csv(index=False))


# --- reading ----------------------------------------------------------------------------------------------------------
def load(most_specimens: int | None = None, archive: Path = FOLDER / ARCHIVE) -> Samples:
    """The set's samples as `simulate` makes them; of at most so many specimens, kinds in equal parts. Raises InputError."""
    try:
        with zipfile.ZipFile(archive) as file:
            rows = _rows(file.read(TABLE), most_specimens)
            images = np.stack([_picture(file.read(f"images/{name}")) for name in rows["file"]])
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            archive.name, "the demo set is missing or damaged", "Make it: python -m lib.tasks.reflectance.demo"
        ) from error
    return Samples({"image": images}, rows)


def _rows(content: bytes, most_specimens: int | None) -> pd.DataFrame:
    """The samples' table from data.csv."""
    rows = pd.read_csv(io.BytesIO(content), keep_default_na=False)
    rows = rows.rename(columns={name: TRUE + name for name in CHANNELS} | {IMAGE_COLUMN: "file"})
    names = rows["specimen"].unique()[:most_specimens]
    rows = rows[rows["specimen"].isin(names)].reset_index(drop=True)
    rows = rows.assign(file=rows["file"].str.rpartition("/")[2], note="")
    return rows[list(simulate.COLUMNS)]


def _picture(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
        return np.asarray(picture.convert("L"))


@functools.cache
def _options() -> argparse.ArgumentParser:
    """The command's options."""
    standard = Recipe()
    parser = argparse.ArgumentParser("python -m lib.tasks.reflectance.demo", description="Make the simulated demo set.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the set (default: the repository's)")
    parser.add_argument("--specimens", type=int, default=standard.specimens, help="how many (default %(default)s)")
    parser.add_argument("--views", type=int, default=standard.views, help="images of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=standard.seed, help="same seed, same set (default %(default)s)")
    parser.add_argument("--jpeg-quality", type=int, default=standard.jpeg_quality, help="1 to 95 (default %(default)s)")
    parser.add_argument("--examples", action="store_true", help="a few examples as CSV and PNG instead of the set")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default %(default)s)")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """The command; 0 when the set is there."""
    given = _options().parse_args(words)
    if given.examples:
        sys.stdout.write("".join(f"{path.name}\n" for path in make_examples(given.output)))
        return 0
    recipe = Recipe(given.specimens, given.views, given.seed, jpeg_quality=given.jpeg_quality)
    try:
        made = make(recipe, given.output, given.jobs)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{made.name}: {recipe.specimens} specimens, {made.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
