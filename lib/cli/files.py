"""Commands on files: simulate, predict, clean."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lib import recipe, runs
from lib.cli.parts import in_parts, parts_arguments, predict_in_parts, tell
from lib.cli.typed import FAILED, OK, UsageError, find, positive, seed_number, settings, task_of, usage
from lib.task import Config, InputError, Task
from lib.uploads import expand

if TYPE_CHECKING:  # it brings torch along, which takes seconds
    import pandas as pd

    from lib.cleaning import Inspection

UNFINISHED = ".unfinished"  # in the output of a prediction: what a call after an interruption need not do again
MAX_SIMULATED_BYTES = 2 * 10**9


def simulate_arguments(command: argparse.ArgumentParser) -> None:
    """What `simulate` takes."""
    command.add_argument("--n", type=positive, required=True, help="how many")
    command.add_argument("--seed", type=seed_number, default=0, help="same seed, same files (default 0)")
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="a folder that is empty or not there yet")
    command.add_argument("--preset", metavar="NAME", help="start from a preset's settings")


def predict_arguments(command: argparse.ArgumentParser) -> None:
    """What `predict` takes."""
    command.add_argument("--input", metavar="PATH", type=Path, nargs="+", help="files, folders and ZIP archives")
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="where predictions.csv and figures go")
    command.add_argument("--model", metavar="RUN", help="run to use (default: the best shipped model)")
    parts_arguments(command)


def simulate(parsed: argparse.Namespace) -> int:
    """Write n simulated files, all or none."""
    task = task_of(parsed.task)
    config = settings(task.Simulation, parsed.set, parsed.preset, task.simulation_presets)
    output: Path = parsed.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: it is not an empty folder. Choose one that is, or a new name.")
    if not task.simulates_piecewise:
        _check_size(task, config, parsed.n, parsed.seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        with tqdm(total=parsed.n, desc="simulating", unit="sample", disable=None) as bar:

            def show(share: float) -> None:
                bar.update(round(share * parsed.n) - bar.n)

            written = task.simulate_into(temporary, config, parsed.n, np.random.default_rng(parsed.seed), show)
        if output.exists():
            output.rmdir()
        temporary.chmod(0o755)
        temporary.rename(output)
    except OSError as error:
        raise InputError(str(output), f"it could not be written ({error.strerror or error})", "Check the disk.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{len(written)} files in {output}")
    return OK


def _check_size(task: Task, config: Config, n: int, seed: int) -> None:
    """Raise UsageError where so many samples would not fit into memory together."""
    one = task.simulate(config, 1, np.random.default_rng(seed))
    size = n * sum(value.nbytes for value in one.inputs.values())
    if size > MAX_SIMULATED_BYTES:
        most = n * MAX_SIMULATED_BYTES // size
        raise UsageError(f"--n {n}: that is {size / 1e9:.1f} GB at once. At most {most}; call it again with other seeds.")


def predict(parsed: argparse.Namespace) -> int:
    """Predict all files; those that fail are named and do not stop the rest."""
    if in_parts(parsed):
        return predict_in_parts(parsed)
    if not parsed.input:
        raise UsageError("--input: which files? Name files, folders or ZIP archives.")
    task = task_of(parsed.task)
    acquisition = settings(task.Acquisition, parsed.set, None, {})
    if parsed.model:
        run = find(parsed.model, task.name)
    else:
        with usage():
            run = runs.default_model(task.name)
    from lib import model as models
    from lib import predict as engine
    from lib.kept import Kept

    with tempfile.TemporaryDirectory(prefix="lightbench-") as folder:
        found = expand(parsed.input, task.suffixes, Path(folder))
        if not found.files and not found.failures:
            raise InputError("--input", f"it holds no {' or '.join(task.suffixes)} file", "Check the paths.")
        model = models.load(run, task)
        with tqdm(total=len(found.files), unit="file", disable=not sys.stderr.isatty()) as bar:

            def advance(share: float, _text: str) -> None:
                bar.update(round(share * len(found.files)) - bar.n)

            kept = Kept.of(parsed.output / UNFINISHED, run, acquisition.model_dump(mode="json"), found.files)
            prediction = engine.predict_files(model, found.files, acquisition, advance, found.failures, kept)
    status = tell(prediction, engine.save(prediction, parsed.output), found.skipped)
    kept.forget()
    return status


# --- clean ----------------------------------------------------------------------------------------------------------
def clean_arguments(command: argparse.ArgumentParser) -> None:
    """What `clean` takes; `--set` changes rules."""
    command.add_argument("--input", metavar="PATH", type=Path, nargs="+", required=True, help="files, folders and ZIP archives")
    command.add_argument("--output", metavar="DIR", type=Path, required=True, help="a new folder for the kept set")
    command.add_argument("--recipe", metavar="FILE", type=Path, help="recipe.json of the Clean page, applied again")
    command.add_argument(
        "--instrument", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="what is known of the instrument"
    )


def clean(parsed: argparse.Namespace) -> int:
    """Read, inspect, keep what no rule removes and what a hand kept, and write it with its recipe."""
    task = task_of(parsed.task)
    rules, known = settings(task.Rules, parsed.set, None, {}), settings(task.Acquisition, parsed.instrument, None, {})
    wanted: dict[str, Any] | None = None
    if parsed.recipe is not None:
        if parsed.set or parsed.instrument:
            raise UsageError("--recipe: it holds the rules and the instrument settings. Leave out --set and --instrument.")
        with usage():
            wanted = recipe.parse(task, _content(parsed.recipe), parsed.recipe.name)
        rules, known = task.Rules.parse(wanted["rules"]), task.Acquisition.parse(wanted["acquisition"])
    if parsed.output.exists():
        raise UsageError(f"{parsed.output}: it is there already. Choose a new name.")
    from lib import cleaning

    with tempfile.TemporaryDirectory(prefix="lightbench-") as folder:
        found = expand(parsed.input, task.suffixes, Path(folder))
        with tqdm(total=1.0, disable=not sys.stderr.isatty(), bar_format="{l_bar}{bar} {postfix}") as bar:

            def advance(share: float, text: str) -> None:
                bar.set_postfix_str(text, refresh=False)
                bar.update(share - bar.n)

            seen = cleaning.inspect(task, found.files, known, advance)
        for name, sentence in [*seen.failures, *found.failures]:
            print(f"error: {name}: {sentence}", file=sys.stderr)
        for name, remark in seen.remarks:
            print(f"note: {name}: {remark}", file=sys.stderr)
        if seen.samples is None:
            raise InputError("--input", "none of it could be read", "Mend the files and try again.")
        kept, total = _write_kept(task, seen, rules, known, wanted, parsed.output)
    print(f"{kept} of {total} samples kept in {parsed.output}")
    return FAILED if seen.failures or found.failures else OK


def _write_kept(
    task: Task, seen: Inspection, rules: Config, known: Config, wanted: dict[str, Any] | None, output: Path
) -> tuple[int, int]:
    """Apply rules and recipe; write; how many of how many samples are kept."""
    from lib import cleaning

    assert seen.samples is not None
    files = [str(file) for file in seen.samples.table["file"]]
    digests = {file: recipe.digest([path for path, _ in raw]) for file, raw in seen.raw.items()}
    hand: recipe.Hand = {}
    if wanted is not None:
        applied = recipe.apply(wanted, files, digests)
        hand = applied.hand
        for missing in applied.missing:
            print(f"note: {missing} is in the recipe but not here", file=sys.stderr)
        if applied.unknown:
            print(f"note: {applied.unknown} samples are not in the recipe; the rules alone decide on them", file=sys.stderr)
    flags = task.flag(seen.readings, rules).reset_index(drop=True)
    keep = recipe.kept(flags, hand).to_numpy(bool)
    _tell_removed(flags, rules, any_kept=bool(keep.any()), by_recipe=wanted is not None)
    text = recipe.build(task, rules.model_dump(), known.model_dump(), files, digests, flags, hand)
    cleaning.write_kept(task, seen.samples, keep, seen.raw, text, output)
    return int(keep.sum()), len(keep)


def _tell_removed(flags: pd.DataFrame, rules: Config, *, any_kept: bool, by_recipe: bool) -> None:
    """How many samples each rule removes; raises InputError where none is left, naming the rule that removes most."""
    removed = {str(rule): int(flags[rule].sum()) for rule in flags.columns}
    for rule, count in removed.items():
        if count:
            print(f"note: {_said(rule, rules)} removes {count} of {len(flags)} samples", file=sys.stderr)
    worst = max(removed, key=removed.__getitem__, default="")
    if any_kept or not removed.get(worst):
        return
    change = f"{worst}=false" if isinstance(getattr(rules, worst, None), bool) else f"{worst}=…"
    remedy = f"Loosen {worst} among the rules of the recipe" if by_recipe else f"Loosen it with --set {change}"
    problem = f"no sample is kept; {_said(worst, rules)} removes most, {removed[worst]} of {len(flags)}"
    raise InputError("the kept set", problem, f"{remedy}, or look at the samples on the Clean page.")


def _said(rule: str, rules: Config) -> str:
    """A rule with its limit, as it is typed."""
    value = getattr(rules, rule, "")
    return f"rule {rule}={str(value).lower() if isinstance(value, bool) else value}" if value != "" else f"rule {rule}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(str(path), f"it cannot be read ({error.strerror or error})", "Check the path.") from error
