"""What a suite file says: inits, data sets, protocols, and the grid they span.

Data and weights have names there: ``{hit-uav}`` is the folder given as ``--data hit-uav=FOLDER``, ``{weights}`` the one
given as ``--weights FOLDER``, and ``pretrain:NAME`` the student of one of the suite's own pre-training entries.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from unip.config import Config
from unip.data.labelled.settings import ImagesFolder, MaskOrientationGiven, MasksFolder, MaskSuffix
from unip.errors import UnipError
from unip.files import read_yaml
from unip.paths import exists, expand
from unip.pretraining.config import PretrainConfig
from unip.segmentation.config import FinetuneConfig
from unip.vit.sources import parse_source

Settings = dict[str, Any]
LabelBudget = Annotated[float, Field(gt=0)]
SpeedBatch = Literal["auto"] | Annotated[int, Field(ge=1)]
ProtocolKind = Literal["finetune", "linear_probe", "layer_probe", "knn"]
# By unip.finetune; the others fit frozen features.
TRAINED_KINDS: frozenset[str] = frozenset({"finetune", "linear_probe"})
PLACEHOLDER = re.compile(r"\{([\w.-]+)\}")
PRETRAINED = "pretrain:"
#: Settings of fine-tuning that a cell's axes decide.
GRID_SETTINGS = FinetuneConfig.names_where(lambda setting: setting.decided_by is not None)
BENCH_SETTINGS = PretrainConfig.names_where(lambda setting: setting.decided_by == "bench")  # of pre-training


def _short(key: str) -> BeforeValidator:
    """Take a text for a mapping that only has ``key``."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Init(Config):
    """The initial weights of a model."""

    model: str = Field(description="As in unip finetune --model; pretrain:NAME is a student of this suite.")
    settings: Settings = Field({}, description="Fine-tuning settings of this init only.")
    method: str = Field("", description="Curve it belongs to in the plot of cost against quality.")
    seeds: tuple[int, ...] | None = Field(None, description="Instead of the protocol's and the suite's seeds.")


class DatasetEntry(Config):
    """A labelled data set and its splits."""

    data: str = Field(description="As in unip finetune --data, such as soda:{soda}.")
    train: str = "train"
    val: str | None = None
    test: str = "test"
    remap: tuple[str, ...] = ()
    images: ImagesFolder = None
    masks: MasksFolder = None
    mask_suffix: MaskSuffix = None
    mask_orientation: MaskOrientationGiven = None
    settings: Settings = Field({}, description="Fine-tuning settings for this data set only.")
    group_by: str | None = Field(
        None,
        description="Regular expression on the names of test images. Images with the same first group belong "
        "together, such as those of a flight or a video; intervals over images then draw whole groups.",
    )

    fold_of: str | None = Field(
        None, description="Name of the set that this is a fold of; results of all its folds are added up, too."
    )

    @field_validator("group_by")
    @classmethod
    def _has_a_group(cls, group_by: str | None) -> str | None:
        if group_by is not None:
            try:
                groups = re.compile(group_by).groups
            except re.error as error:
                raise ValueError(f"{group_by!r} is not a regular expression: {error}") from None
            if not groups:
                raise ValueError(f"{group_by!r} has no group (in brackets) to group images by")
        return group_by

    def groups(self, images: Sequence[str]) -> list[str]:
        """Return for each file name the group that it belongs to; without ``group_by`` each its own."""
        found = [re.search(self.group_by, image) if self.group_by is not None else None for image in images]
        return [image if match is None else str(match[1]) for image, match in zip(images, found, strict=True)]


def _each(corruptions: tuple[str, ...]) -> tuple[str, ...]:
    """Write out what is asked for, such as ``all``: each as ``NAME:SEVERITY``."""
    from unip.data.corruptions import parse_corruptions  # here: it needs numpy

    return tuple(map(str, parse_corruptions(corruptions)))


Corruptions = Annotated[tuple[str, ...], AfterValidator(_each)]


class Protocol(Config):
    """What is done with an init."""

    kind: ProtocolKind = "finetune"
    recipe: str | None = Field(None, description="Recipe of unip finetune, beside the suite, that settings win over.")
    settings: Settings = Field({}, description="Of unip finetune, or of the fit on frozen features.")
    label_budgets: tuple[LabelBudget, ...] | None = Field(None, description="Instead of the suite's label budgets.")
    seeds: tuple[int, ...] | None = Field(None, description="Instead of the suite's seeds.")
    corruptions: Corruptions | None = Field(None, description="Instead of the suite's corruptions.")
    choose: dict[str, list[Any]] = Field({}, description="Settings whose best value each cell chooses on val.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Protocol:
        if self.kind not in TRAINED_KINDS and (self.recipe or self.choose):
            raise ValueError(f"{self.kind} takes neither a recipe nor choose")
        if self.kind not in TRAINED_KINDS and self.corruptions:
            raise ValueError(f"{self.kind} is not evaluated under corruptions")
        return self


class Published(Config):
    """Numbers of others to show beside ours: the mean over the suite's data sets."""

    source: str = Field(description="Where they are from.")
    miou: dict[str, dict[str, float]] = Field(description="mIoU in percent, by protocol and init.")


class Suite(Config):
    """The grid of a bench: every init on every data set under every protocol."""

    described: ClassVar[str] = "docs/bench.md"
    title: str = "Bench"
    inits: dict[str, Annotated[Init, _short("model")]] = Field(min_length=1)
    datasets: dict[str, Annotated[DatasetEntry, _short("data")]] = Field(min_length=1)
    protocols: dict[str, Protocol] = Field(min_length=1)
    label_budgets: tuple[LabelBudget, ...] = Field(
        (1.0,), min_length=1, description="Shares of the images up to 1, or counts."
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    corruptions: Corruptions = Field((), description="As in unip evaluate --corruption; for trained protocols.")
    pretrain: dict[str, Settings] = Field(
        {}, description="Settings of unip pretrain, by name; run first, once. They win over those of a recipe there."
    )
    baseline: str | None = Field(None, description="Init that the others are compared with.")
    published: Published | None = None
    speed_batch: SpeedBatch = Field("auto", description="Crops at once when images/s are timed; auto: 8, on CUDA 64.")

    @field_validator("inits", "datasets", "protocols", "pretrain")
    @classmethod
    def _are_plain_names(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(f"the name {name!r} in {info.field_name} may hold letters, digits and . _ + - only")
        return value

    @model_validator(mode="after")
    def _baseline_and_students_are_there(self) -> Suite:
        if self.baseline is not None and self.baseline not in self.inits:
            raise ValueError(f"baseline {self.baseline!r} is none of the inits: {', '.join(self.inits)}")
        for name, init in self.inits.items():
            wanted = init.model.removeprefix(PRETRAINED)
            if init.model.startswith(PRETRAINED) and wanted not in self.pretrain:
                near = difflib.get_close_matches(wanted, self.pretrain, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"init {name!r} wants {init.model!r}, which is not under `pretrain`{hint}")
        return self

    @model_validator(mode="after")
    def _val_is_there(self) -> Suite:
        for name, protocol in self.protocols.items():
            chooses = protocol.choose or protocol.settings.get("eval_every")
            if chooses and not all(source.val for source in self.datasets.values()):
                raise ValueError(f"protocol {name!r} chooses on val, but not every data set names its `val`")
        return self

    @model_validator(mode="after")
    def _leaves_what_is_decided_elsewhere(self) -> Suite:
        for where, settings in self._all_settings():
            taken = sorted(GRID_SETTINGS & set(settings))
            if taken:
                raise ValueError(f"{where} holds {taken[0]!r}, which the grid decides")
        for name, entry in self.pretrain.items():
            if taken := sorted(BENCH_SETTINGS & set(entry)):
                raise ValueError(f"pre-training entry {name!r} holds {taken[0]!r}, which the bench decides")
            if not isinstance(entry.get("recipe"), str | None):
                raise ValueError(f"pre-training entry {name!r}: its recipe must be a file, got {entry['recipe']!r}")
        return self

    def _seeds(self, init: str, protocol: Protocol) -> tuple[int, ...]:
        given = (self.inits[init].seeds, protocol.seeds, self.seeds)
        return next(seeds for seeds in given if seeds is not None)

    def corruptions_of(self, protocol: str) -> tuple[str, ...]:
        """Return the corruptions that the cells of a protocol are evaluated under, each as ``NAME:SEVERITY``."""
        own = self.protocols[protocol]
        if own.kind not in TRAINED_KINDS:
            return ()
        return self.corruptions if own.corruptions is None else own.corruptions

    def _all_settings(self) -> Iterator[tuple[str, Settings]]:
        for name, init in self.inits.items():
            yield f"init {name!r}", init.settings
        for name, source in self.datasets.items():
            yield f"data set {name!r}", source.settings
        for name, protocol in self.protocols.items():
            if protocol.kind in TRAINED_KINDS:
                yield f"protocol {name!r}", {**protocol.settings, **protocol.choose}

    def cells(self) -> list[Axes]:
        """Return the grid: seeds turn fastest, so that tables fill up row by row."""
        return [
            Axes(init, dataset, name, label_budget, seed)
            for name, protocol in self.protocols.items()
            for dataset in self.datasets
            for label_budget in (self.label_budgets if protocol.label_budgets is None else protocol.label_budgets)
            for init in self.inits
            for seed in self._seeds(init, protocol)
        ]


@dataclass(frozen=True)
class Axes:
    """The place of a cell in the grid."""

    init: str
    dataset: str
    protocol: str
    label_budget: float
    seed: int

    def __str__(self) -> str:
        """Return a name that is also one of a folder."""
        return (
            f"{self.init}_{self.dataset}_{self.protocol}_{budget_text(self.label_budget, sign='pct')}_seed{self.seed}"
        )


def budget_text(label_budget: float, sign: str = " %") -> str:
    """Return a label budget for people: a share up to 1 in percent, a number of images above."""
    return f"{100 * label_budget:g}{sign}" if label_budget <= 1 else f"{label_budget:g}"


def read_suite(path: Path) -> Suite:
    """Read a suite file, with the recipes that its protocols and pre-training entries name put in.

    Raises:
        UnipError: It is missing or wrong; the message names the file and the key.
    """
    try:
        suite = Suite.make(**read_yaml(path))
    except UnipError as error:
        raise UnipError(f"{path}: {error.what}" if str(path) not in error.what else error.what, error.fix) from None

    protocols = {
        name: each.model_copy(update={"settings": _filled(each.settings, each.recipe, GRID_SETTINGS, path)})
        for name, each in suite.protocols.items()
    }
    pretrain = {}
    for name, each in suite.pretrain.items():
        own = {key: value for key, value in each.items() if key != "recipe"}
        pretrain[name] = _filled(own, each.get("recipe"), BENCH_SETTINGS, path)
    return suite.model_copy(update={"protocols": protocols, "pretrain": pretrain})


def _filled(settings: Settings, recipe: str | None, decided: Set[str], suite: Path) -> Settings:
    """Add the settings of a recipe beside the suite, without those that are decided elsewhere."""
    held = {} if recipe is None else read_yaml(suite.parent / recipe)
    return {**{key: value for key, value in held.items() if key not in decided}, **settings}


class Locations:
    """Where the named data and weights are.

    Args:
        data: ``NAME=FOLDER`` each.
        weights: What ``{weights}`` stands for.

    Raises:
        UnipError: One has no name, or a name twice.
    """

    def __init__(self, data: Iterable[str], weights: Path | None) -> None:
        self.named: dict[str, str] = {} if weights is None else {"weights": str(weights)}
        for text in data:
            name, equals, place = text.partition("=")
            if not (name and equals and place) or name in self.named:
                raise UnipError(
                    f"--data {text!r} is not NAME=FOLDER, each name once", "For example hit-uav=DATA/hit-uav."
                )
            self.named[name] = place

    def fill(self, value: Any) -> Any:
        """Put the places into every text of a setting."""
        if isinstance(value, str):
            return PLACEHOLDER.sub(lambda found: self.named.get(found[1], found[0]), value)
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list | tuple) else value

    def check(self, suite: Suite) -> None:
        """Refuse data that the suite does not ask for: a name written wrongly, most likely.

        Raises:
            UnipError: A name is not in it.
        """
        filled: list[Any] = [suite.pretrain, [[init.model, init.settings] for init in suite.inits.values()]]
        filled += [[source.data, source.settings] for source in suite.datasets.values()]
        filled += [[protocol.settings, protocol.choose] for protocol in suite.protocols.values()]
        asked = set(PLACEHOLDER.findall(json.dumps(filled, default=str))) - {"weights"}
        for name in self.named:
            if name in asked | {"weights"}:
                continue
            near = difflib.get_close_matches(name, asked, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(sorted(asked)) or 'none'}."
            raise UnipError(f"--data {name}={self.named[name]}: the suite has no data of that name", hint)

    def missing(self, value: Any) -> list[str]:
        """Say what is still to be given, or not there where it was given, for a setting to be used."""
        if isinstance(value, dict):
            return self.missing(list(value.values()))
        if isinstance(value, list | tuple):
            return [text for item in value for text in self.missing(item)]
        if not isinstance(value, str):
            return []
        names = PLACEHOLDER.findall(value)
        unknown = [name for name in names if name not in self.named]
        if unknown:
            return ["--weights FOLDER" if n == "weights" else f"--data {n}=FOLDER" for n in unknown]
        filled = str(self.fill(value))
        source = parse_source(filled)
        filled = str(source.file) if source.kind == "timm" and source.file else filled
        for prefix in (r"[\w-]+:(?=\S)", r"(infrared|rgb)="):
            filled = re.sub(f"^{prefix}", "", filled) if names else filled
        return [filled] if names and not exists(expand(filled)) else []
