"""A form from a Config: one widget per field, in groups, with units, bounds, help and presets.

The values live in the session under the form's key, so they stay when the user leaves the page, and two pages that use
the same key (say, what is known of the microscope) share them.
"""

from __future__ import annotations

import contextlib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from lib.runs import refuse_beyond_data
from lib.task import NOTHING, Choices, Config, InputError
from lib.ui.context import show_error
from lib.ui.words import kept, t
from lib.words import Say, english

Kind = Literal["choice", "switch", "integer", "number", "text", "list"]
GROUP_TITLES = {  # in the order of a form
    "": "Settings", "model": "Model", "data": "Data", "camera": "Camera", "visible": "Visible", "hidden": "Hidden",
    "optimiser": "Optimiser", "compute": "Compute",
}  # fmt: skip
EMPTY = "estimated if empty"
WORDS = {
    "qe": "QE", "fwhm": "FWHM", "psf": "PSF", "snr": "SNR", "cpu": "CPU", "gpu": "GPU", "px": "pixel", "num": "number of",
    "e": "e⁻",
}  # fmt: skip
E10 = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)  # ten steps to a decade, as on a log slider
MARKED = str.maketrans({"µ": "u", "²": "2", "³": "3", "⁻": "", "%": "percent", "Å": "angstrom", "°": "deg"})
LONG_UNITS = ("percent", "angstrom", "angstrom2", "mrad")  # that are units wherever they end a name


@dataclass(frozen=True)
class Entry:
    """What a widget needs to know of one field."""

    name: str
    label: str  # with unit
    help: str
    group: str
    kind: Kind
    default: Any
    optional: bool
    choices: tuple[Any, ...]
    low: float | None
    high: float | None
    log: bool
    description: str
    empty: str  # what a number that is left out stands for


# --- from Config to entries ------------------------------------------------------------------------------------------
def entries(config_cls: type[Config]) -> list[Entry]:
    """The fields of a Config in order."""
    return [_entry(name, info) for name, info in config_cls.model_fields.items()]


def defaults(config_cls: type[Config]) -> dict[str, Any]:
    """The default value of every field."""
    return {name: info.get_default(call_default_factory=True) for name, info in config_cls.model_fields.items()}


def label_of(name: str, unit: str, description: str) -> str:
    """`frame_interval_s` in `s` becomes "Frame interval (s)"; acronyms follow the description and the unit."""
    text = f"{description[:1].lower()}{description[1:]} {unit}" if description[1:2].islower() else f"{description} {unit}"
    acronyms = {word.lower(): word for word in re.findall(r"\b[A-Z][A-Z0-9]*\b", text) + re.findall(r"\w+", unit)}
    words = without_unit(name, unit).split("_")
    label = " ".join(WORDS.get(word) or acronyms.get(word) or word for word in words)
    if not label.startswith("e⁻"):
        label = label[:1].upper() + label[1:]
    return label if not unit or unit in words else f"{label} ({unit})"


def without_unit(name: str, unit: str) -> str:
    """The name without the unit at its end: `d_um2_s` in `µm²/s` is `d`. Words of more than three letters stay: `min_photons`."""
    plain = unit.translate(MARKED).lower()
    for tail in (plain.replace("/", "_"), plain.split("/")[0]):
        if tail and (max(map(len, tail.split("_"))) <= 3 or tail in LONG_UNITS) and name.endswith(f"_{tail}"):
            return name.removesuffix(f"_{tail}")
    return name


def _entry(name: str, info: FieldInfo) -> Entry:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    unit, description = str(extra.get("unit", "")), info.description or ""
    kind, choices, optional = _kind(info.annotation)
    low, high = _bounds(info)
    return Entry(
        name, label_of(name, unit, description), f"{description}.  \nKey: `{name}`", str(extra.get("group", "")), kind,
        info.get_default(call_default_factory=True), optional, choices, low, high, bool(extra.get("log")), description,
        str(extra.get("empty", "")),
    )  # fmt: skip


def spoken(config_cls: type[Config], say: Say) -> list[Entry]:
    """The fields of a Config with label and help in the language of now; `say` knows the task's words."""
    return [
        replace(
            entry,
            label=say(entry.label),
            help=t("{told}.  \nKey: `{name}`", told=say(entry.description), name=entry.name),
            empty=say(entry.empty) if entry.empty else t(EMPTY),
        )
        for entry in entries(config_cls)
    ]


def _kind(annotation: Any) -> tuple[Kind, tuple[Any, ...], bool]:
    """Which widget an annotation asks for, its choices, and whether it may be empty."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    optional = type(None) in parts
    inner = next(part for part in parts if part is not type(None))
    if typing.get_origin(inner) is Literal:
        return "choice", typing.get_args(inner), optional
    if typing.get_origin(inner) is tuple:
        return "list", (), optional
    kinds: dict[Any, Kind] = {bool: "switch", int: "integer", float: "number"}
    return kinds.get(inner, "text"), (), optional


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Lowest and highest value, open ends as closed ones: pydantic has the last word."""
    low = high = None
    for item in info.metadata:
        if isinstance(item, Ge | Gt):
            low = item.ge if isinstance(item, Ge) else item.gt
        elif isinstance(item, Le | Lt):
            high = item.le if isinstance(item, Le) else item.lt
    return typing.cast("float | None", low), typing.cast("float | None", high)


# --- the form --------------------------------------------------------------------------------------------------------
def config_form(
    config_cls: type[Config],
    key: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    values: Mapping[str, Any] | None = None,
    groups: Sequence[str] | None = None,
    columns: int = 3,
    *,
    folded: Sequence[str] = (),
    hide: Sequence[str] = (),
    choices: Mapping[str, Sequence[Any]] | None = None,
    offers: Choices | None = None,
    first_preset: bool = False,
    sliders: bool = False,
    subject: str = "settings",
    say: Say = english,
    reader: str = "",
) -> dict[str, Any] | None:
    """Show the form and return its valid values, or show what is wrong and return None.

    `values` are starting values over the defaults; `first_preset` starts from the first preset. A preset sets its own
    keys and puts the keys that only its siblings set back to their defaults. `groups` shows only those groups, in that
    order; `folded` groups start closed; `hide` leaves fields out (they keep their starting value); `choices` offers
    values for a text field, `offers` those that chosen files have and suggest; `sliders` draws log fields and fractions as
    sliders, for pages that redraw at once; `say` puts labels, help, presets and choices into the reader's language;
    `reader` names the task that opens files which the values name: they must lie under `data/`.
    """
    start = defaults(config_cls) | (dict(next(iter(presets.values()))) if presets and first_preset else {}) | dict(values or {})
    store: dict[str, Any] = st.session_state.setdefault(_store_key(key), start)
    _take_filled(key, store)
    if presets:
        _preset_bar(config_cls, key, presets, start, first_preset, say)
    shown = [entry for entry in spoken(config_cls, say) if entry.name not in hide]
    for group in groups or _group_order(shown):
        members = [entry for entry in shown if entry.group == group]
        if members:
            with st.expander(group_title(group, say), expanded=group not in folded):
                for entry, cell in zip(members, _cells(len(members), columns), strict=True):
                    with cell:
                        offer = _offer(entry, choices or {}, offers or Choices())
                        store[entry.name] = _widget(entry, f"{key}.{entry.name}", store[entry.name], offer, sliders, say)
    if not presets:
        _reset_button(key, start)
    empty = [entry.label for entry in shown if store[entry.name] is None and not entry.optional]
    try:
        if empty:
            raise InputError(subject, t("{fields} is empty", fields=", ".join(empty)), t("Give a number."))
        config = config_cls.parse(store, subject)
        if reader:
            refuse_beyond_data(config, reader)
        return config.model_dump()
    except InputError as error:
        show_error(error)
        return None


def group_title(group: str, say: Say) -> str:
    """What a group of fields is called: the bench knows some, a task its own."""
    return t(GROUP_TITLES[group]) if group in GROUP_TITLES else say(group.capitalize())


def _group_order(shown: Sequence[Entry]) -> list[str]:
    """Groups of these fields: the known ones in the form's order, then a task's own."""
    known = list(GROUP_TITLES)
    groups = dict.fromkeys(entry.group for entry in shown)
    return sorted(groups, key=lambda group: known.index(group) if group in known else len(known))


def fill_form(key: str, values: Mapping[str, Any]) -> None:
    """Put values into the form of that key when it is shown next, also from another page. Unknown keys are left out there."""
    waiting = st.session_state.setdefault(f"{key}:fill", {})
    waiting.update(values)


def form_values(key: str) -> dict[str, Any]:
    """The values last seen in the form of that key; empty where it was never shown."""
    return dict(st.session_state.get(_store_key(key), {}))


def _store_key(key: str) -> str:
    return f"{key}:values"


def _take_filled(key: str, store: dict[str, Any]) -> None:
    """Move waiting values into the store and the widgets, before the widgets are made."""
    for name, value in st.session_state.pop(f"{key}:fill", {}).items():
        if name in store:
            store[name] = value
            st.session_state[f"{key}.{name}"] = value


def _preset_bar(
    config_cls: type[Config],
    key: str,
    presets: Mapping[str, Mapping[str, Any]],
    start: dict[str, Any],
    first_preset: bool,
    say: Say,
) -> None:
    """The preset choice and the reset button, in one row."""
    touched = {name for preset in presets.values() for name in preset}
    base = {name: value for name, value in defaults(config_cls).items() if name in touched}
    chooser = kept(f"{key}:preset")
    chosen_last = f"{key}:preset-kept"

    def apply() -> None:
        st.session_state[chosen_last] = st.session_state[chooser]
        if chosen := st.session_state[chooser]:
            fill_form(key, base | dict(presets[chosen]))

    names = list(presets)
    if chooser not in st.session_state:
        st.session_state[chooser] = st.session_state.get(chosen_last, names[0] if first_preset else None)
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False):
        st.selectbox(
            t("Preset"), names, index=None, key=chooser, on_change=apply, placeholder=t("Choose a preset"), format_func=say
        )
        _reset_button(key, start)


def _reset_button(key: str, start: dict[str, Any]) -> None:
    def reset() -> None:
        fill_form(key, start)

    told = t("Back to the starting values")
    st.button(t("Reset"), key=f"{key}:reset", on_click=reset, icon=":material/restart_alt:", help=told)


def _cells(n: int, columns: int) -> list[Any]:
    """Places for n widgets in rows of `columns`; one column needs none, which the browser would have to lay out."""
    if columns == 1:
        return [contextlib.nullcontext()] * n
    return [cell for _ in range(math.ceil(n / columns)) for cell in st.columns(columns)][:n]


# --- one widget ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Offer:
    """What one field may be picked from; `empty` says what it stands for when it is left empty."""

    options: tuple[Any, ...]
    empty: str
    suggested: str = ""
    known: bool = False  # the options are all that the chosen files have


def _offer(entry: Entry, choices: Mapping[str, Sequence[Any]], offers: Choices) -> Offer | None:
    """The options of a field, None for one that is typed."""
    suggested = str(offers.suggested.get(entry.name, ""))
    if entry.name in offers.offered:
        found = offers.offered[entry.name]
        options = tuple(option for option in found if option != NOTHING or suggested)
        told = t("{name} (suggested)", name=suggested) if suggested else t("none")
        read = entry.name in offers.suggested
        return Offer(options, told if read else t("all") if found else t("as the file suggests"), suggested, bool(found))
    if entry.kind == "choice" or entry.name in choices:
        return Offer(tuple(choices.get(entry.name, entry.choices)), t("none"), suggested)
    return None


def _widget(entry: Entry, key: str, value: Any, offer: Offer | None, sliders: bool, say: Say) -> Any:
    """The widget of one field, holding `value` unless the user already changed it."""
    if key not in st.session_state:
        st.session_state[key] = value
    if offer is not None:
        return _picks(entry, key, offer) if entry.kind == "list" else _choice(entry, key, offer, say)
    if entry.kind == "switch":
        return st.toggle(entry.label, key=key, help=entry.help)
    if entry.kind in ("text", "list"):
        if not isinstance(st.session_state[key], str):
            st.session_state[key] = ", ".join(map(str, st.session_state[key]))
        told = t("separated by commas") if entry.kind == "list" else None
        return st.text_input(entry.label, key=key, help=entry.help, max_chars=500, placeholder=told)
    if sliders and entry.kind == "number" and not entry.optional:
        slider = _log_slider(entry, key) if entry.log else _fraction_slider(entry, key)
        if slider is not None:
            return slider
    return _number(entry, key)


def _choice(entry: Entry, key: str, offer: Offer, say: Say) -> Any:
    own = entry.kind == "text"  # the choices are only suggestions, and what is typed is a name
    shown_as: dict[Any, Any] = st.session_state.setdefault(f"{key}:shown-as", {})
    st.session_state[key] = _meant(st.session_state[key], offer, shown_as)
    options = list(offer.options)
    if offer.known and "" not in options:
        options.insert(0, "")
    empty = [None] if entry.optional and None not in options else []
    if st.session_state[key] not in [*options, *empty]:
        options.append(st.session_state[key])
    words = {None: t("automatic"), "": offer.empty, NOTHING: t("none")}

    def text(value: Any) -> str:
        if value in words:
            return words[value]
        told = str(value) if own else say(str(value))
        if offer.known and value not in offer.options:
            return t("{name} (not in these files)", name=told)
        return t("{name} (suggested)", name=told) if value == offer.suggested and not offer.known else told

    st.session_state[key] = st.session_state[key]  # it stays chosen where the options have changed
    shown_as.update({text(option): option for option in [*empty, *options]})
    value = st.selectbox(
        entry.label, [*empty, *options], key=kept(key), help=entry.help, format_func=text, accept_new_options=own
    )
    return _meant(value, offer, shown_as)


def _meant(value: Any, offer: Offer, shown_as: Mapping[Any, Any]) -> Any:
    """The option behind words that one was shown as: the browser sends those back as if typed once the options change."""
    return value if value in offer.options else shown_as.get(value, value)


def _picks(entry: Entry, key: str, offer: Offer) -> list[str]:
    """Several names from those that are offered, or typed; none chosen is what `offer.empty` says."""
    held = st.session_state[key]
    chosen = [part.strip() for part in held.split(",") if part.strip()] if isinstance(held, str) else [str(v) for v in held]
    st.session_state[key] = chosen
    options = list(dict.fromkeys([*map(str, offer.options), *chosen]))

    def text(value: str) -> str:
        lost = offer.known and value not in offer.options
        return t("none") if value == NOTHING else t("{name} (not in these files)", name=value) if lost else value

    return st.multiselect(
        entry.label, options, key=kept(key), help=entry.help, format_func=text, accept_new_options=True, placeholder=offer.empty
    )


def _number(entry: Entry, key: str) -> float | int | None:
    """A number field; one that the user empties is None.

    The widget knows no bounds: beyond them the browser would keep what is typed to itself, and the value before would be used.
    """
    whole = entry.kind == "integer"
    cast: Any = int if whole else float
    if st.session_state[key] is not None:
        st.session_state[key] = cast(st.session_state[key])
    options: dict[str, Any] = {
        "step": 1 if whole else _step(entry),
        "format": "%d" if whole else "%g",
        "value": None if entry.optional else "min",  # None gives a button that empties the field
        "placeholder": entry.empty if entry.optional else None,
    }
    value: float | int | None = st.number_input(entry.label, key=key, help=entry.help, **options)
    return value


def _step(entry: Entry) -> float:
    """A tenth of the default's decade; where there is no default, fine enough for seconds or nanometres."""
    if entry.default:
        return float(10.0 ** (math.floor(math.log10(abs(entry.default))) - 1))
    return 0.01 if entry.high is not None and entry.high <= 100 else 1.0


def _log_slider(entry: Entry, key: str) -> float | None:
    """A slider over ten steps a decade, three decades either side of the default, within the bounds."""
    centre = float(entry.default) or float(entry.high or 1.0) / 1e3
    low = max(centre / 1e3, entry.low or 0.0)
    high = min(centre * 1e3, entry.high or math.inf)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ladder = {round(mantissa * 10.0**d, 12) for d in decades for mantissa in E10}
    options = {value for value in ladder if low <= value <= high} | {float(st.session_state[key])}
    if entry.low == 0 and not entry.default > 0:
        options.add(0.0)
    st.session_state[key] = float(st.session_state[key])
    chosen: float = st.select_slider(entry.label, sorted(options), key=key, help=entry.help, format_func=lambda v: f"{v:.6g}")
    return chosen


def _fraction_slider(entry: Entry, key: str) -> float | None:
    """A plain slider where the whole range is worth sliding over; None where it is too wide."""
    if entry.low is None or entry.high is None or entry.high - entry.low > 10:
        return None
    st.session_state[key] = float(st.session_state[key])
    span = float(entry.high - entry.low)
    return float(st.slider(entry.label, float(entry.low), float(entry.high), step=span / 100, key=key, help=entry.help))
