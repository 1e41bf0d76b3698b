"""The pictures of single-molecule clips: frames, path, MSD, and D with its error bar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib import figures
from lib.task import Film, Marks, Panel, Picture, Samples
from lib.tasks.diffusion import estimators, localise, simulate
from lib.tasks.diffusion.config import CLIP_FRAMES, CLIP_PX, Simulation
from lib.words import Say, english

D = "d_px2_per_frame"
METHOD_COLOURS = {
    "model": figures.ACCENT,
    "MLE": figures.ORANGE,
    "CVE": figures.BLUE,
    "MSD fit": figures.PURPLE,
    "trajectory bound": figures.GREY,
}
OVERSAMPLE = 4
MOST_DOTS = 8  # positions marked within a frame: a browser needs 0.1 s for all of them
BELOW = 1000.0  # so far below D (factor) a bar is drawn that goes down to 0
MAX_STRIPS = 3  # clips of one prediction that are shown frame by frame
NM_PER_UM = 1000.0


def levels(frames: np.ndarray) -> np.ndarray:
    """uint8 frames on one grey scale, the darkest 1 % and brightest 0.05 % of pixels cut off."""
    lo, hi = np.quantile(frames[:, ::2, ::2] if frames.size > 200_000 else frames, (0.01, 0.9995))
    return figures.grey_levels(frames, float(lo), float(hi))


def thumbnail(samples: Samples, row: int) -> np.ndarray:
    """uint8 (64, 64): the brightest value of each pixel over the frames, so that a moving molecule shows as its path."""
    record = samples.table.iloc[row]
    clip = np.asarray(samples.inputs["clip_adu"][row], dtype=np.float32)[: int(record["n_frames"])]
    return figures.grey_levels(clip.max(axis=0), float(np.median(clip)))


def tracked_film(frames: np.ndarray, found: localise.Track, interval_s: float = np.nan, say: Say = english) -> Film:
    """All frames (T, h, w) side by side or played, with the molecule's centre ringed where it is visible in row 0 of `found`."""
    seen, y_px, x_px = found.visible[0], found.y_px[0], found.x_px[0]
    rings = tuple(((float(x_px[t]), float(y_px[t])),) if seen[t] else () for t in range(len(frames)))
    return Film((figures.reel(levels(frames)),), _times(len(frames), interval_s), (Marks(say("molecule"), rings),), spread=True)


def _times(count: int, interval_s: float) -> tuple[str, ...]:
    """When each frame began, where the interval is known."""
    return tuple(f"{t * interval_s:.3g} s" if np.isfinite(interval_s) else "" for t in range(count))


def path_figure(path_px: np.ndarray, found: localise.Track, say: Say = english) -> go.Figure:
    """A path (T, k, 2) of sub-frame positions (y, x) coloured by frame, and the centres measured in row 0 over it."""
    y, x = path_px[..., 0].ravel(), path_px[..., 1].ravel()
    dots = path_px[:, :: -(-path_px.shape[1] // MOST_DOTS)]
    colour = np.repeat(np.arange(1, len(dots) + 1), dots.shape[1])
    fig = figures.figure(height=420, xaxis_title="x (px)", yaxis_title="y (px)")
    bar = {"title": {"text": say("frame")}}
    fig.add_scatter(x=x, y=y, mode="lines", line={"width": 1, "color": figures.GREY}, hoverinfo="skip", showlegend=False)
    rim = {"width": 0.5, "color": figures.GREY}  # the first frames are dark, and so may the page be
    marker = {"color": colour, "colorscale": "Viridis", "size": 5, "colorbar": bar, "showscale": True, "line": rim}
    fig.add_scatter(
        x=dots[..., 1].ravel(),
        y=dots[..., 0].ravel(),
        mode="markers",
        marker=marker,
        name=say("true position while the shutter is open"),
        text=[say("frame {n}", n=c) for c in colour],
    )
    seen, measured = found.visible[0], say("centre measured in each frame")
    cross = {"symbol": "x-thin", "size": 10, "line": {"width": 2, "color": figures.ORANGE}}
    fig.add_scatter(x=found.x_px[0][seen], y=found.y_px[0][seen], mode="markers", marker=cross, name=measured)
    return fig.update_yaxes(autorange="reversed", scaleanchor="x", scaleratio=1)


def msd_figure(
    curves: dict[str, np.ndarray], lines: dict[str, float], interval_s: float = np.nan, say: Say = english
) -> go.Figure:
    """MSD curves (px² per lag, index 0 = lag 1) and lines 4·D·t for each D (px²/frame) in `lines`."""
    longest = max(len(curve) for curve in curves.values())
    lag = np.arange(1, longest + 1)
    known = np.isfinite(interval_s)
    time = lag * interval_s if known else lag.astype(float)
    fig = figures.figure(xaxis_title=say("lag (s)") if known else say("lag (frames)"), yaxis_title=say("MSD (px²)"))
    for (name, curve), colour in zip(curves.items(), (figures.ORANGE, figures.BLUE)):
        fig.add_scatter(x=time[: len(curve)], y=curve, mode="lines+markers", name=name, line_color=colour)
    for (name, d), dash, colour in zip(lines.items(), ("solid", "dash", "dot"), (figures.ACCENT, figures.PURPLE, figures.GREY)):
        if np.isfinite(d):
            fig.add_scatter(
                x=time,
                y=4 * d * lag,
                mode="lines",
                name=say("4Dt, {name}: D = {d:.3g} px²/frame", name=name, d=d),
                line={"color": colour, "dash": dash},
            )
    return fig


# --- Simulate ---------------------------------------------------------------------------------------------------------
def simulation_panels(sample: Samples, config: Simulation, series: Samples, say: Say = english) -> list[Panel]:
    """One simulated clip (row 0 of `sample`, with `path_px`) and a row of clips over a range of D (`series`)."""
    path = np.asarray(sample.inputs["path_px"][0], dtype=float)
    sharp = simulate.render_noiseless(path, config, OVERSAMPLE).astype(np.float32)
    found = localise.track(estimators.noise_equivalent(sample)[:1])
    frames = np.asarray(sample.inputs["clip_adu"][0], dtype=np.float32)
    speeds = ", ".join(f"{d:.3g}" for d in series.table["true_d_px2_per_frame"])
    return [
        Panel(
            "clip", say("The clip"), _film(frames, sharp, path.mean(axis=1), config.frame_interval_s, say), say(
            "A frame with its noise; what a perfect camera would record, where a fast molecule smears its spot, a shape that "
            "tells D as well as the path does; and the light that falls on the camera, finer than its pixels, faint raised."),
            True,
        ),
        Panel(
            "path", say("Path of the molecule"), path_figure(path, found, say), say(
            "Where the molecule is while the shutter is open, coloured by frame, and the centre that a fit finds in each frame. "
            "A centre is the mean over the exposure: what happens within a frame shows only as blur."),
        ),
        Panel("msd", say("Mean squared displacement"), _simulated_msd(path, found, config, say), _msd_text(say)),
        Panel(
            "photons", say("Photons"), photon_histogram(sample, config, say), say(
            "Light of each pixel in all frames. The peak is background, the tail the molecule; the spread comes from photon "
            "statistics, EM gain and read noise."),
        ),
        Panel(
            "settings", say("In other units"), conditions_table(config, found, say), say(
            "What these settings mean, and how well any analysis of centroids can do."),
        ),
        Panel(
            "range", say("The same molecule at other speeds"), Picture(figures.png(range_picture(series), scale=3)), say(
            "Above: one frame. Below: mean of all frames. At otherwise equal settings; D from left to right: {speeds} "
            "px²/frame.", speeds=speeds), True,
        ),
    ]  # fmt: skip


def _film(frames: np.ndarray, sharp: np.ndarray, mean_path: np.ndarray, interval_s: float, say: Say) -> Film:
    """Frames (T, h, w) as recorded, without noise, and finer; the true mean positions (T, 2) to lay over."""
    coarse = sharp.reshape(len(sharp), CLIP_PX, OVERSAMPLE, CLIP_PX, OVERSAMPLE).sum(axis=(2, 4))
    reels = (
        figures.reel(levels(frames), say("as the camera records it")),
        figures.reel(figures.grey_levels(coarse), say("without noise and background")),
        figures.reel(figures.grey_levels(np.sqrt(sharp)), say("the light itself, {n} × finer", n=OVERSAMPLE), zoom=OVERSAMPLE),
    )
    true = Marks(say("true path"), tuple(((float(x), float(y)),) for y, x in mean_path), joined=True, shown=False)
    return Film(reels, _times(len(frames), interval_s), (true,))


def _msd_text(say: Say) -> str:
    return say(
        "The average squared distance after each time lag. It should follow 4Dt, but a single short clip scatters widely and its "
        "lags are not independent: this is why fitting the MSD, as the original project did, errs by some 80 %."
    )


def _simulated_msd(path: np.ndarray, found: localise.Track, config: Simulation, say: Say) -> go.Figure:
    """MSD of true frame means and of measured centres, with the true D and the fitted one."""
    mean = path.mean(axis=1)
    curves = {
        say("true centres"): estimators.msd(mean[None, :, 0], mean[None, :, 1])[0],
        say("measured centres"): estimators.msd(found.y_px, found.x_px, found.visible)[0],
    }
    fitted = float(estimators.msd_fit(found.y_px, found.x_px, found.visible)[0])
    lines = {say("true"): config.d_px2_per_frame, say("fitted to all lags"): fitted}
    return msd_figure(curves, lines, config.frame_interval_s, say)


def photon_histogram(sample: Samples, config: Simulation, say: Say = english) -> go.Figure:
    """Distribution of pixel values of clip 0 in photons, logarithmic counts."""
    values = estimators.noise_equivalent(sample)[0].ravel() * config.excess_noise
    lo, hi = np.quantile(values, (0.0002, 0.9999))
    edges = np.linspace(lo, max(hi, lo + 1), 70)
    if config.em_gain == 1 and config.read_sigma_e < 0.2 and hi - lo < 200:
        edges = np.arange(np.floor(lo) - 0.5, np.ceil(hi) + 1.5)  # whole photons
    fig = figures.figure(xaxis_title=say("photo-electrons per pixel"), yaxis_title=say("pixels"), yaxis_type="log")
    count = np.histogram(values, edges)[0]
    outline = {"color": figures.ACCENT, "shape": "hv"}  # one path: bars take a browser as long as they are many
    fig.add_scatter(x=edges, y=[*np.maximum(count, 0.5), 0.5], mode="lines", line=outline, fill="tozeroy", name=say("pixels"))
    level, top = config.background * config.qe, max(1, int(count.max()))
    fig.add_scatter(
        x=[level, level], y=[0.5, top], mode="lines+text", line={"dash": "dash", "color": figures.GREY}, name=say("background"),
        text=["", say("background")], textposition="top right",
    )  # fmt: skip
    return fig


def range_picture(series: Samples) -> np.ndarray:
    """Grey levels (h, w): one column per clip of `series`, above a frame, below the mean of all frames."""
    clips = np.asarray(series.inputs["clip_adu"], dtype=np.float32)
    middle = clips.shape[1] // 2
    lo, hi = np.quantile(clips[:, middle], (0.01, 0.9995))
    frames = [figures.grey_levels(clip[middle], float(lo), float(hi)) for clip in clips]
    means = [figures.grey_levels(clip.mean(axis=0)) for clip in clips]
    return figures.contact_sheet(np.stack(frames + means), columns=len(clips))


def conditions_table(config: Simulation, found: localise.Track, say: Say = english) -> pd.DataFrame:
    """Settings in the units of the picture, and the limits they set."""
    exposure = config.exposure_s / config.frame_interval_s
    width = float(np.sqrt(config.sigma_px**2 + 1 / 12 + config.d_px2_per_frame * exposure / 3))
    light, level = config.photons * config.qe, config.background * config.qe
    noise = float(estimators.localisation_variance(np.array(light), np.array(level), np.array(width), config.excess_noise))
    d = config.d_px2_per_frame
    bound = float(estimators.trajectory_bound(np.array(d), np.array(noise), exposure / 6, CLIP_FRAMES)) if d > 0 else np.nan
    rows = [
        ("D", f"{d:.4g}", say("px²/frame")),
        (say("step per frame and axis (rms)"), f"{(2 * d) ** 0.5:.3g}", "px"),
        (say("spot σ, still"), f"{config.sigma_px:.3g}", "px"),
        (say("spot σ, blurred by motion"), f"{width:.3g}", "px"),
        (say("camera gain"), f"{config.adu_per_photon / config.qe:.4g}", say("ADU/photo-electron")),
        (say("measured signal to noise"), f"{np.median(found.snr):.3g}", ""),
        (say("localisation precision"), f"{noise**0.5:.3g}", "px"),
        (say("least error of D from centroids"), f"{bound:.0%}" if np.isfinite(bound) else "–", ""),
    ]
    return pd.DataFrame(rows, columns=[say("quantity"), say("value"), say("unit")])


# --- a real clip ------------------------------------------------------------------------------------------------------
def sample_panels(samples: Samples, row: int, say: Say = english) -> list[Panel]:
    """What to look at when one real clip is picked: frames with the molecule marked, path, MSD, readings."""
    one = samples.take([row])
    found = localise.track(estimators.noise_equivalent(one), n_frames=one.table["n_frames"].to_numpy())
    return _clip_panels(one, found, {}, "", say)


def _clip_panels(one: Samples, found: localise.Track, lines: dict[str, float], suffix: str, say: Say) -> list[Panel]:
    """Frames, path and MSD of a single clip."""
    record = one.table.iloc[0]
    count = int(record["n_frames"])
    frames = np.asarray(one.inputs["clip_adu"][0], dtype=np.float32)[:count]
    estimates = estimators.baselines(one, found).iloc[0]
    drawn = lines or {
        say("maximum likelihood"): float(estimates["d_mle_px2_per_frame"]),
        say("fitted to all lags"): float(estimates["d_msd_px2_per_frame"]),
    }
    curve = {say("measured centres"): estimators.msd(found.y_px, found.x_px, found.visible)[0][: count - 1]}
    seen = found.visible[0]
    path = np.stack([found.y_px[0][seen], found.x_px[0][seen]], axis=-1)[:, None]
    name, interval_s = record["file"], float(record["frame_interval_s"])
    film = tracked_film(frames, found, interval_s, say)
    circles = say("Circles mark the molecule where it is visible.")
    drawn_path = _measured_path(path, np.flatnonzero(seen) + 1, say)
    msd = msd_figure(curve, drawn, interval_s, say)
    return [
        Panel(f"frames{suffix}", say("Frames of {name}", name=name), film, circles, True),
        Panel(f"path{suffix}", say("Path in {name}", name=name), drawn_path, say("Centre of the spot in each frame.")),
        Panel(f"msd{suffix}", say("Mean squared displacement of {name}", name=name), msd, _msd_text(say)),
        Panel(f"readings{suffix}", say("Readings of {name}", name=name), readings_table(record, estimates, say), record["note"]),
    ]


def _measured_path(path: np.ndarray, frame: np.ndarray, say: Say) -> go.Figure:
    """Centres joined in order and coloured by frame."""
    fig = figures.figure(height=420, xaxis_title="x (px)", yaxis_title="y (px)")
    bar = {"title": {"text": say("frame")}}
    marker = {"color": frame, "colorscale": "Viridis", "size": 9, "colorbar": bar, "showscale": True}
    line = {"width": 1, "color": figures.GREY}
    text = [say("frame {n}", n=number) for number in frame]
    fig.add_scatter(x=path[:, 0, 1], y=path[:, 0, 0], mode="lines+markers", marker=marker, line=line, text=text)
    return fig.update_yaxes(autorange="reversed", scaleanchor="x", scaleratio=1)


def readings_table(record: pd.Series, estimates: pd.Series, say: Say = english) -> pd.DataFrame:
    """Camera, spot and classical estimates of one clip."""
    rows = [
        (say("camera offset"), record["baseline_adu"], "ADU"),
        (say("camera gain"), record["slope_adu"] / record["excess_noise"], "ADU/photon"),
        (say("photons per frame"), estimates["photons_per_frame"], "photons"),
        (say("background"), estimates["background_photons_px"], "photons/px"),
        (say("spot σ"), estimates["spot_sigma_px"], "px"),
        (say("signal to noise"), estimates["snr"], ""),
        (say("frames with a visible spot"), estimates["n_visible"], ""),
        (say("D by maximum likelihood"), estimates["d_mle_px2_per_frame"], say("px²/frame")),
        (say("D by covariance (CVE)"), estimates["d_cve_px2_per_frame"], say("px²/frame")),
        (say("D by MSD fit"), estimates["d_msd_px2_per_frame"], say("px²/frame")),
        (say("least error of D from centroids"), estimates["bound_relative_sd"], say("relative")),
    ]
    shown = [(name, f"{float(value):.4g}", unit) for name, value, unit in rows]
    return pd.DataFrame(shown, columns=[say("quantity"), say("value"), say("unit")])


# --- Predict ----------------------------------------------------------------------------------------------------------
def prediction_panels(table: pd.DataFrame, samples: Samples, say: Say = english) -> list[Panel]:
    """D with error bars for every file; for up to three clips also frames, path and MSD."""
    done = table[np.isfinite(table[D].astype(float))].reset_index(drop=True) if D in table else table.iloc[:0]
    if done.empty:
        told = say("No file gave a diffusion coefficient: the table says why for each.")
        return [Panel("nothing", say("No D to show"), told)]
    told = say(
        "Points: the model's D; bars: the central 68 %. Diamonds and crosses: D from centroids alone, by maximum "
        "likelihood and by covariance. An open point is a clip that something stands against: its note says what."
    )
    panels = [Panel("d", say("Diffusion coefficient"), interval_figure(done, say), told, True)]
    if len(done) > 12:
        told = say("How many clips have which D, on a logarithmic axis.")
        panels.append(Panel("distribution", say("Distribution of D"), distribution_figure(done, say), told))
    if samples.inputs and len(done) == len(samples) and len(samples) <= MAX_STRIPS:
        found = localise.track(estimators.noise_equivalent(samples), n_frames=samples.table["n_frames"].to_numpy())
        for row in range(len(samples)):
            one = localise.Track(**{key: value[row : row + 1] for key, value in vars(found).items()})
            lines = {say("model"): float(done[D][row]), say("maximum likelihood"): float(done["d_mle_px2_per_frame"][row])}
            panels += _clip_panels(samples.take([row]), one, lines, f"-{row}" if row else "", say)
    return panels


def interval_figure(done: pd.DataFrame, say: Say = english) -> go.Figure:
    """Files from slow to fast, D with its intervals and the classical estimates, log axis."""
    use = done.assign(**{D: done[D].astype(float)}).sort_values(D, kind="stable")
    unit = "d_um2_s" if "d_um2_s" in use and use["d_um2_s"].notna().all() else D
    scale = (use["d_um2_s"].astype(float) / use[D]).to_numpy() if unit == "d_um2_s" else np.ones(len(use))
    position = np.arange(len(use))
    fig = figures.figure(
        xaxis_title="D (µm²/s)" if unit == "d_um2_s" else say("D (px²/frame)"),
        xaxis_type="log",
        height=int(np.clip(120 + 26 * len(use), 220, 1100)),
    )
    lo, hi = (use[f"{D}_{end}"].to_numpy(float) * scale for end in ("lo", "hi"))
    lo = np.where(lo > 0, lo, use[D].to_numpy(float) * scale / BELOW)  # down to 0, which a log axis does not have
    x, y = np.stack([lo, hi, np.full(len(lo), np.nan)], 1).ravel(), np.repeat(position, 3)
    fig.add_scatter(x=x, y=y, mode="lines", line={"width": 5, "color": figures.ACCENT}, name=say("68 %"), hoverinfo="skip")
    for name, column, symbol in (("MLE", "d_mle_px2_per_frame", "diamond"), ("CVE", "d_cve_px2_per_frame", "x")):
        if column in use:
            values = use[column].to_numpy(float) * scale
            marker = {"symbol": symbol, "size": 8, "color": METHOD_COLOURS[name]}
            fig.add_scatter(x=np.where(values > 0, values, np.nan), y=position, mode="markers", marker=marker, name=say(name))
    inside = use["in_domain"].astype(bool) if "in_domain" in use else np.ones(len(use), bool)
    least = np.where(use[f"{D}_lo"] > 0, lo, use[D] * scale).min()
    fig.update_xaxes(range=[np.log10(least / 4), np.log10(hi.max() * 4)])  # an MLE of "no motion" lies far left
    symbols = np.where(inside, "circle", "circle-open")
    marker = {"symbol": symbols, "size": 11, "color": figures.ACCENT, "line": {"width": 2, "color": figures.ACCENT}}
    fig.add_scatter(
        x=use[D] * scale,
        y=position,
        mode="markers",
        marker=marker,
        name=say("model"),
        text=use["file"],
        hovertemplate="%{text}<br>D = %{x:.3g}<extra></extra>",
    )
    labels = [name if len(name) <= 34 else f"{name[:16]}…{name[-17:]}" for name in use["file"].astype(str)]
    few = len(use) <= 40
    return fig.update_yaxes(
        tickvals=position if few else [],
        ticktext=labels if few else [],
        title_text="" if few else say("{n} clips", n=len(use)),
        showgrid=False,
    )


def distribution_figure(done: pd.DataFrame, say: Say = english) -> go.Figure:
    """Histogram of log D, model and maximum likelihood."""
    fig = figures.figure(xaxis_title=say("D (px²/frame)"), yaxis_title=say("clips"), xaxis_type="log", barmode="overlay")
    values = {"model": done[D].to_numpy(float)}
    if "d_mle_px2_per_frame" in done:
        values["MLE"] = done["d_mle_px2_per_frame"].to_numpy(float)
    positive = np.concatenate([v[v > 1e-4] for v in values.values()])
    edges = np.linspace(np.log10(positive.min()) - 0.1, np.log10(positive.max()) + 0.1, 30)
    for name, numbers in values.items():
        count = np.histogram(np.log10(np.maximum(numbers, 10 ** edges[0])), edges)[0]
        middle = 10 ** ((edges[1:] + edges[:-1]) / 2)
        line = {"shape": "hvh", "color": METHOD_COLOURS[name]}
        fig.add_scatter(x=middle, y=count, mode="lines", line=line, fill="tozeroy", name=say(name))
    return fig
