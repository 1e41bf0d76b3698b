"""Settings of reading micrographs and of cleaning a set of them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from lib.task import Config, option
from lib.tasks.reflectance.ranking import parse_target
from lib.tasks.reflectance.specimens import pattern_problem

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
TABLES = (".csv", ".tsv")
SUFFIXES = (*PICTURES, *TABLES)


class Acquisition(Config):
    """What the user knows of the pictures; whatever is left empty comes from the table, the file, or stays unknown."""

    nm_per_px: float | None = option(
        None, "Width of a pixel of the files, of all of them; empty takes the table's column, else what the file tells",
        unit="nm", group="data", gt=0, le=10_000,
    )  # fmt: skip
    info_bar_px: int | None = option(
        None, "Height of the information bar below the picture, cut away; empty finds it, 0 is none", unit="px", group="data",
        ge=0, le=10_000,
    )  # fmt: skip
    image_folder: str = option(
        "", "Folder of the pictures that a table names, where they lie neither beside it nor where it says", group="data",
        max_length=400,
    )  # fmt: skip
    specimen_from: Literal["automatic", "column", "file name", "equal targets", "nothing"] = option(
        "automatic",
        "What tells pictures of one specimen: the table's column, a pattern of the file name, or that all ten targets are equal; "
        "automatic takes the first of these that there is",
        group="data",
    )
    specimen_pattern: str = option(
        "", "Specimen in the file name, as {specimen}_view*.png, or a regular expression with (?P<specimen>…)", group="data",
        max_length=400,
    )  # fmt: skip
    target: str = option(
        "", "Predictions are ranked by how near they are to this: a colour as #3060c0, or channels as B=0.4, 940=0.1",
        group="data", max_length=200,
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parse_target(self.target)
        if problem := pattern_problem(self.specimen_pattern):
            raise ValueError(f"specimen_pattern: {problem}")
        if self.specimen_from == "file name" and not self.specimen_pattern:
            raise ValueError("specimen_from = file name needs a specimen_pattern, as {specimen}_view*.png")
        return self


class Rules(Config):
    """Thresholds of the Clean page, on the 256 × 256 px that a network sees; a rule on what is not known removes nothing."""

    max_scale_ratio: float = option(
        2.0, "Largest factor between a picture's nm per px and the median of all", group="data", gt=1, le=1000
    )
    drop_unknown_scale: bool = option(False, "Remove pictures whose nm per px nobody tells", group="data")
    min_contrast_grey: float = option(
        6.0, "Smallest standard deviation of the grey values, of 255", unit="grey levels", group="data", ge=0, le=128
    )
    max_saturated_percent: float = option(15.0, "Most pixels that are black or white", unit="%", group="data", ge=0, le=100)
    max_detail_px: float = option(
        12.0, "Largest period of the finest structure that stands out of the noise: above it the picture is blurred", unit="px",
        group="data", ge=2, le=256,
    )  # fmt: skip
    min_laplacian: float = option(
        0.0, "Smallest variance of the Laplacian, the usual measure of blur; noise makes it larger, so 0 leaves it out",
        unit="grey levels²", group="data", ge=0, le=1e5,
    )  # fmt: skip
    drop_scale_bars: bool = option(True, "Remove pictures with a scale bar inside", group="data")
    drop_copies: bool = option(True, "Remove pictures whose pixels repeat an earlier one", group="data")
    max_copy_bits: int = option(
        6, "Most of the 64 bits of the perceptual hash in which a copy (compressed, resized, brighter) differs from an earlier "
        "picture", unit="bits", group="data", ge=0, le=12,
    )  # fmt: skip
    drop_turned_copies: bool = option(True, "Remove pictures that are an earlier one turned, mirrored or shifted", group="data")
    drop_outside_targets: bool = option(True, "Remove pictures with a target below 0 or above 1", group="data")
    drop_contradictions: bool = option(True, "Remove pictures that come several times with other targets", group="data")
    min_targets: int = option(0, "Fewest of the ten targets that are known", unit="targets", group="data", ge=0, le=10)
    drop_leaks: bool = option(
        True, "Remove training pictures whose specimen is also in another part, where the table has a column split", group="data"
    )
    try_pattern: str = option(
        "", "File-name pattern to try: the view Specimens shows at once what it gives; then read the files with it", group="data",
        max_length=400,
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := pattern_problem(self.try_pattern):
            raise ValueError(f"try_pattern: {problem}")
        return self
