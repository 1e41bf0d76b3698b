"""The command line on diffusion's own settings: what is refused before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.__main__ import main
from lib.tasks.diffusion import TASK

WRONG = {
    "em_gain=-3": ("em_gain", "1"),
    "e_per_adu=0": ("e_per_adu", "0"),
    "px_size_nm=-100": ("px_size_nm", "0"),
    "psf_sigma_error_percent=0": ("psf_sigma_error_percent", "0.2"),
    "frame_interval_s=ten": ("frame_interval_s", "number"),
    "pixel_size=100": ("pixel_size", "px_size_nm"),
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_usage_and_writes_nothing(setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    line = ["predict", "diffusion", "--input", str(TASK.example()[0]), "--output", str(output), "--set", setting]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in WRONG[setting]), said
    assert not output.exists()


def test_presets_whose_names_hold_commas_are_listed_in_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "diffusion", "--preset", "nope"]) == 2
    assert "'SpotNet, quick', 'SpotNet, as shipped'" in capsys.readouterr().err


def test_a_shutter_open_longer_than_a_frame_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["predict", "diffusion", "--input", str(TASK.example()[0]), "--output", str(tmp_path / "out")]
    assert main([*line, "--set", "exposure_s=0.05", "frame_interval_s=0.01"]) == 2
    assert "exposure_s = 0.05 is longer than frame_interval_s = 0.01" in capsys.readouterr().err
