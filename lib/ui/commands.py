"""The command line that does what a button did."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lib.task import Config, typed
from lib.ui.words import t


def changed(config: Config) -> dict[str, Any]:
    """The fields of a config that differ from their defaults."""
    return {key: value for key, value in config.model_dump().items() if value != type(config).model_fields[key].default}


def command(words: Sequence[str], settings: Mapping[str, Any] | None = None) -> str:
    """`python -m lib …` with one `--set` for all settings, quoted for a shell."""
    pairs = [f"{key}={typed(value)}" for key, value in (settings or {}).items() if value is not None]
    return shlex.join(["python", "-m", "lib", *words, *(["--set", *pairs] if pairs else [])])


def show_command(text: str) -> None:
    """The same from the command line, folded."""
    with st.expander(t("The same from the command line"), icon=":material/terminal:"):
        st.code(text, language="bash", wrap_lines=True)
