"""Forms from a Config: labels, bounds, presets, empty fields, errors, and values that stay."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import model_validator
from streamlit.testing.v1 import AppTest

from lib.task import Config, option
from lib.ui.forms import defaults, entries, label_of, without_unit


class Knobs(Config):
    """One field of every kind."""

    gain: float | None = option(None, "Amplification", unit="V", group="camera", ge=1, le=50)
    limit: float | None = option(None, "Highest voltage", unit="V", group="camera", empty="no limit", ge=0)
    frames: int = option(16, "Frames", unit="frames", group="data", ge=1, le=100)
    first: float = option(1.0, "Start", unit="s", group="data", ge=0, le=100)
    last: float = option(2.0, "End", unit="s", group="data", log=True, gt=0, le=100)
    share: float = option(0.5, "Share", group="data", ge=0, le=1)
    mode: Literal["fast", "exact"] = option("fast", "How", group="model")
    on: bool = option(True, "Whether", group="model")
    note: str = option("", "Anything", group="model")

    @model_validator(mode="after")
    def _ordered(self):
        if self.first > self.last:
            raise ValueError(f"first = {self.first} is after last = {self.last}")
        return self


@pytest.mark.parametrize(
    ("name", "unit", "description", "label"),
    [
        ("frame_interval_s", "s", "Time from frame to frame", "Frame interval (s)"),
        ("d_min_px2", "px²/frame", "Smallest D drawn", "D min (px²/frame)"),
        ("d_um2_s", "µm²/s", "Diffusion coefficient", "D (µm²/s)"),
        ("min_photons", "photons/frame", "Fewest photons", "Min photons (photons/frame)"),
        ("epochs", "epochs", "Passes over the data", "Epochs"),
        ("em_gain", "", "EM gain; 1 for sCMOS", "EM gain"),
        ("baseline_adu", "ADU", "Camera offset", "Baseline (ADU)"),
        ("px_size_nm", "nm", "Pixel size", "Pixel size (nm)"),
        ("e_per_adu", "e⁻/ADU", "Electrons per ADU", "e⁻ per ADU (e⁻/ADU)"),
        ("learning_rate", "", "Peak step size of AdamW", "Learning rate"),
    ],
)
def test_label_has_words_and_unit(name: str, unit: str, description: str, label: str) -> None:
    assert label_of(name, unit, description) == label


def test_unit_stays_in_the_name_where_it_is_the_name() -> None:
    assert without_unit("photons", "photons") == "photons"
    assert without_unit("rmse_v", "V") == "rmse"


def test_entries_carry_bounds_choices_and_optionality() -> None:
    found = {entry.name: entry for entry in entries(Knobs)}
    assert (found["gain"].low, found["gain"].high, found["gain"].optional, found["gain"].kind) == (1.0, 50.0, True, "number")
    assert found["mode"].choices == ("fast", "exact") and found["mode"].kind == "choice"
    assert found["frames"].kind == "integer" and found["on"].kind == "switch" and found["note"].kind == "text"
    assert "`gain`" in found["gain"].help and "Amplification" in found["gain"].help
    assert defaults(Knobs)["frames"] == 16


def script() -> None:
    import streamlit as st

    from lib.ui.forms import config_form, fill_form
    from tests.test_forms import Knobs

    if st.session_state.get("away"):
        if st.session_state.pop("fill", False):
            fill_form("knobs", {"frames": 7, "unknown": 1})
    else:
        presets = {"short": {"frames": 4, "first": 0.5}, "long": {"frames": 90}}
        options = st.session_state.get("options", {})
        st.session_state["result"] = config_form(Knobs, "knobs", presets=presets, **options)


@pytest.fixture
def form() -> AppTest:
    return AppTest.from_function(script, default_timeout=20).run()


def test_defaults_are_valid_and_returned(form: AppTest) -> None:
    assert form.session_state["result"] == defaults(Knobs)
    assert not form.error


def test_changed_values_come_back_typed(form: AppTest) -> None:
    form.number_input(key="knobs.frames").set_value(8)
    form.number_input(key="knobs.gain").set_value(2.5)
    form.toggle(key="knobs.on").set_value(False)
    form.selectbox(key="knobs.mode").set_value("exact").run()
    result = form.session_state["result"]
    assert (result["frames"], result["gain"], result["on"], result["mode"]) == (8, 2.5, False, "exact")


def test_an_emptied_optional_field_is_none(form: AppTest) -> None:
    form.number_input(key="knobs.gain").set_value(2.5).run()
    form.number_input(key="knobs.gain").set_value(None).run()
    assert form.session_state["result"]["gain"] is None


def test_an_empty_field_says_what_it_stands_for(form: AppTest) -> None:
    assert form.number_input(key="knobs.gain").placeholder == "estimated if empty"
    assert form.number_input(key="knobs.limit").placeholder == "no limit"


@pytest.mark.parametrize(("name", "value", "bound"), [("gain", -3.0, "1"), ("gain", 50.5, "50"), ("frames", 0, "1")])
def test_a_value_beyond_its_bounds_gives_a_sentence_and_no_values(form: AppTest, name: str, value: float, bound: str) -> None:
    form.number_input(key=f"knobs.{name}").set_value(value).run()
    assert form.session_state["result"] is None
    told = form.error[0].value.replace("\\", "")
    assert f"{name} = {value}" in told and f"equal to {bound}" in told


def test_fields_that_contradict_each_other_give_one_sentence_and_no_values(form: AppTest) -> None:
    form.number_input(key="knobs.first").set_value(5.0).run()
    assert form.session_state["result"] is None
    assert len(form.error) == 1 and "first = 5.0 is after last = 2.0" in form.error[0].value.replace("\\", "")
    form.number_input(key="knobs.first").set_value(1.0).run()
    assert form.session_state["result"] == defaults(Knobs)


def test_a_preset_sets_its_keys_and_puts_its_siblings_keys_back(form: AppTest) -> None:
    form.toggle(key="knobs.on").set_value(False)
    form.selectbox(key="knobs:preset").set_value("short").run()
    assert form.session_state["result"] == defaults(Knobs) | {"frames": 4, "first": 0.5, "on": False}
    form.selectbox(key="knobs:preset").set_value("long").run()
    assert form.session_state["result"] == defaults(Knobs) | {"frames": 90, "on": False}


def test_reset_brings_the_start_back(form: AppTest) -> None:
    form.number_input(key="knobs.frames").set_value(8).run()
    form.button(key="knobs:reset").click().run()
    assert form.session_state["result"] == defaults(Knobs)


def test_values_stay_while_the_user_is_on_another_page(form: AppTest) -> None:
    form.number_input(key="knobs.frames").set_value(8).run()
    form.session_state["away"] = True
    form.run()
    assert not form.number_input
    form.session_state["away"] = False
    form.run()
    assert form.session_state["result"]["frames"] == 8
    assert form.number_input(key="knobs.frames").value == 8


def test_another_page_fills_the_form(form: AppTest) -> None:
    form.session_state["away"] = form.session_state["fill"] = True
    form.run()
    form.session_state["away"] = False
    form.run()
    assert form.session_state["result"] == defaults(Knobs) | {"frames": 7}


def test_sliders_are_drawn_where_asked() -> None:
    form = AppTest.from_function(script, default_timeout=20)
    form.session_state["options"] = {"sliders": True}
    form.run()
    form.select_slider(key="knobs.last").set_value(5.0)
    form.slider(key="knobs.share").set_value(0.25).run()
    result = form.session_state["result"]
    assert (result["last"], result["share"]) == (5.0, 0.25)


def test_first_preset_hidden_fields_and_offered_choices() -> None:
    form = AppTest.from_function(script, default_timeout=20)
    form.session_state["options"] = {
        "first_preset": True,
        "hide": ("gain",),
        "choices": {"note": ["", "a", "b"]},
        "values": {"gain": 3.0},
    }
    form.run()
    assert form.session_state["result"] == defaults(Knobs) | {"frames": 4, "first": 0.5, "gain": 3.0}
    assert "knobs.gain" not in {field.key for field in form.number_input}
    form.selectbox(key="knobs.note").set_value("b").run()
    assert form.session_state["result"]["note"] == "b"


# --- what chosen files offer ------------------------------------------------------------------------------------------
class Picked(Config):
    """Fields that name parts of a file."""

    label: str = option("", "Column to learn", group="data")
    extra: tuple[str, ...] = option((), "Columns of numbers", group="data")
    mode: Literal["apart", "joined"] = option("apart", "Several files at once", group="data")


def picking() -> None:
    import streamlit as st

    from lib.task import Choices
    from lib.ui.forms import config_form
    from tests.test_forms import Picked

    offers = Choices(*st.session_state.get("offers", ({"label": (), "extra": ()}, {})))
    st.session_state["result"] = config_form(Picked, "picked", offers=offers)


FILES = {"label": ("grade", "brix", "-"), "extra": ("grade", "brix", "-")}
READ = (FILES, {"label": "grade", "extra": "brix, pH", "mode": "joined"})


@pytest.fixture
def picked() -> AppTest:
    page = AppTest.from_function(picking, default_timeout=20)
    page.session_state["offers"] = READ
    return page.run()


def test_columns_are_picked_and_the_suggested_one_stands_there(picked: AppTest) -> None:
    label, extra = picked.selectbox(key="picked.label"), picked.multiselect(key="picked.extra")
    assert label.options == ["grade (suggested)", "grade", "brix", "none"] and label.value == ""
    assert extra.options == ["grade", "brix", "none"] and extra.proto.placeholder == "brix, pH (suggested)"
    assert picked.selectbox(key="picked.mode").options == ["apart", "joined (suggested)"]
    assert picked.session_state["result"] == defaults(Picked)  # empty stands for what is suggested


def test_a_picked_column_stays_when_other_files_are_chosen_and_says_that_it_is_not_there(picked: AppTest) -> None:
    picked.selectbox(key="picked.label").set_value("brix").run()
    picked.multiselect(key="picked.extra").set_value(["grade", "brix"]).run()
    assert picked.session_state["result"] == {"label": "brix", "extra": ("grade", "brix"), "mode": "apart"}
    picked.session_state["offers"] = ({"label": ("class",), "extra": ("class",)}, {"label": "", "extra": ""})
    picked.run()
    assert picked.selectbox(key="picked.label").options == ["none", "class", "brix (not in these files)"]
    assert picked.session_state["result"] == {"label": "brix", "extra": ("grade", "brix"), "mode": "apart"}
    assert picked.multiselect(key="picked.extra").options[1:] == ["grade (not in these files)", "brix (not in these files)"]


def test_none_overrides_a_suggestion_and_is_only_offered_beside_one(picked: AppTest) -> None:
    picked.selectbox(key="picked.label").set_value("-").run()
    assert picked.session_state["result"]["label"] == "-"
    picked.session_state["offers"] = (FILES, {"label": "", "extra": ""})
    picked.session_state["picked:fill"] = {"label": ""}
    picked.run()
    assert picked.selectbox(key="picked.label").options == ["none", "grade", "brix"]


def test_words_of_an_option_that_come_back_after_the_options_changed_are_that_option() -> None:
    """A browser sends the words it shows; those of an option that is no longer offered would pass for a typed name."""
    page = AppTest.from_function(picking, default_timeout=20).run()
    assert page.selectbox(key="picked.label").options == ["as the file suggests"]
    page.session_state["offers"] = READ
    page.session_state["picked.label"] = "as the file suggests"
    page.run()
    assert page.session_state["result"] == defaults(Picked)
    page.session_state["picked:fill"] = {"label": "a name of their own"}
    page.run()
    assert page.session_state["result"]["label"] == "a name of their own"


def test_without_files_names_can_be_typed_and_a_recipe_fills_them(picked: AppTest) -> None:
    picked.session_state["offers"] = ({"label": (), "extra": ()}, {})
    picked.session_state["picked:fill"] = {"label": "lot", "extra": ["a, b", "c"]}
    picked.run()
    assert picked.session_state["result"] == {"label": "lot", "extra": ("a, b", "c"), "mode": "apart"}
    assert picked.selectbox(key="picked.label").proto.accept_new_options
    picked.session_state["picked:fill"] = {"label": "", "extra": "a, c"}
    picked.run()
    assert picked.session_state["result"] == {"label": "", "extra": ("a", "c"), "mode": "apart"}
    assert picked.selectbox(key="picked.label").options == ["as the file suggests"]
