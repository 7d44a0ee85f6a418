"""Settings of reading and writing images, apart from the code that needs numpy."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unip.config import Config
from unip.documents import parse_json

ConversionMethod = Literal["percentile", "minmax", "plateau", "window"]

Polarity = Literal["white-hot", "black-hot"]

PaletteChoice = Literal[
    "keep", "invert",
    "arctic", "dji-arctic", "dji-green", "dji-iron", "dji-rainbow", "dji-spectrum", "grey-red", "hot", "inferno",
    "iron", "jet", "lava", "magma", "plasma", "rainbow", "rainbow-hc", "turbo", "viridis",
]  # fmt: skip

PERCENTILES = (0.5, 99.5)

PLATEAU = 0.003  # 3/4 of what each of 256 levels would hold in equal shares


class Conversion(Config):
    """How the samples of a frame become 8-bit grey; frames that are 8-bit already keep their contrast."""

    method: ConversionMethod = Field(
        "percentile", description="Stretch between percentiles or minimum..maximum, plateau equalisation, or a window."
    )
    percentiles: tuple[float, float] = Field(PERCENTILES, description="Of the frame; they become black and white.")
    plateau: float = Field(PLATEAU, gt=0, le=1, description="Share of the pixels that one level counts at most.")
    window: tuple[float, float] | None = Field(
        None, description="What becomes black and white: Kelvin of radiometric files, else stored counts."
    )
    polarity: Polarity = Field("white-hot", description="How the frames are stored; black-hot ones are inverted.")
    palette: PaletteChoice = Field(
        "keep", description="Colours of a palette: keep them, or invert the palette that is recognised or named."
    )
    radiometric: bool = Field(
        False, description="Take the temperatures of a radiometric JPEG, not its picture; a window always does."
    )
    nodata: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Value of samples without a measurement, beside the one that a file declares; not of 8-bit frames.",
    )

    @field_validator("percentiles")
    @classmethod
    def _check_percentiles(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError("percentiles must be two increasing numbers within 0..100")
        return percentiles

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not -math.inf < window[0] < window[1] < math.inf:
            raise ValueError("window must be two increasing numbers")
        return window

    @model_validator(mode="after")
    def _check_conversion(self) -> Self:
        if (self.method == "window") != (self.window is not None):
            raise ValueError("the method window needs a window, such as 280 and 320 Kelvin; no other method takes one")
        return self

    def given(self, **settings: str | float | None) -> Self:
        """Return the same for frames that are stored in another way than those of training; None: as those."""
        return self.model_copy(update={name: each for name, each in settings.items() if each is not None})

    @property
    def takes_temperature(self) -> bool:
        """Whether radiometric files are read as temperatures rather than as their picture."""
        return self.radiometric or self.method == "window"

    @property
    def takes_luma(self) -> bool:
        """Whether a JPEG's luma is all that is needed where grey is wanted."""
        return not self.takes_temperature and self.palette == "keep"

    def as_settings(self) -> dict[str, Any]:
        """Return the values of :class:`ConversionOptions`, in which the method is called ``conversion``."""
        return {"conversion" if name == "method" else name: value for name, value in self}

    def as_json(self) -> str:
        """Return the conversion as one line of JSON, with all fields."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | None) -> Self:
        """Read what :meth:`as_json` wrote; None or an empty text is the default conversion.

        Raises:
            UnipError: It does not describe a conversion.
        """
        return _from_json(cls, text) if text else cls()

    def describe(self) -> str:
        """Say the rule in a few words, for a program's first lines and model cards."""
        low, high = self.percentiles
        rule = {
            "percentile": f"percentiles {low:g}..{high:g} stretched to black..white",
            "minmax": "minimum..maximum stretched to black..white",
            "plateau": f"plateau equalisation, a level counts at most {100 * self.plateau:g} % of the pixels",
            "window": "window {:g}..{:g} (Kelvin of radiometric files, else counts)".format(*self.window or (0, 0)),
        }[self.method]
        files = ", radiometric files as temperatures" if self.radiometric and self.method != "window" else ""
        recognised = "" if self.palette == "invert" else f" {self.palette}"
        colours = "" if self.palette == "keep" else f", colours of the palette{recognised} turned back into grey"
        missing = "" if self.nodata is None else f", samples of {self.nodata:.15g} left out"
        return f"{rule}{missing}{files}{colours}, {self.polarity}{' inverted' * (self.polarity == 'black-hot')}"


class ConversionOptions(Config):
    """A conversion as settings of a verb; what is left out comes from the data, else from the default conversion."""

    conversion: ConversionMethod | None = Field(
        None, description="How counts become 8-bit grey; none: as the data says, else percentile."
    )
    percentiles: tuple[float, float] | None = Field(None, description="Of a frame; they become black and white.")
    plateau: float | None = Field(None, description="Plateau equalisation: share of pixels a level counts at most.")
    window: tuple[float, float] | None = Field(
        None, description="Kelvin of radiometric files, else counts, that become black and white in every frame."
    )
    polarity: Polarity | None = Field(None, description="How the frames are stored; black-hot ones are inverted.")
    palette: PaletteChoice | None = Field(
        None, description="Colours of a palette: keep, invert (back to grey levels), or a palette's name to invert."
    )
    radiometric: bool | None = Field(None, description="Take temperatures of radiometric JPEGs, not their picture.")
    nodata: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Value of samples without a measurement, such as a border of 0 or -9999; files may declare it.",
    )

    def resolve_conversion(self, stated: Conversion | None) -> Conversion:
        """Return the conversion that these settings give, for data that states one or none.

        Raises:
            UnipError: They do not fit together.
        """
        given = {
            name: value
            for name in Conversion.model_fields
            if (value := getattr(self, "conversion" if name == "method" else name)) is not None
        }
        values = (stated or Conversion()).model_dump() | given
        if "window" in given and "method" not in given:
            values["method"] = "window"
        if values["method"] != "window" and "window" not in given:
            values["window"] = None
        return Conversion.make(**values)


@lru_cache(maxsize=256)  # one source's rows of a manifest all say the same
def _from_json(cls: type[Any], text: str) -> Any:
    return parse_json(text, f"conversion {text[:200]!r}", cls, fix="")


Format = Literal["keep", "webp", "jpeg", "png"]


class ThermalSdkConfig(Config):
    """Settings of ``unip data thermal-sdk``."""

    source: Path = Field(description="The unpacked SDK of DJI, or the folder in it that holds libdirp.")
    overwrite: bool = Field(False, description="Also replace an earlier library that was changed since.")
    dry_run: bool = Field(False, description="See whether its library can be loaded, copy nothing.")
