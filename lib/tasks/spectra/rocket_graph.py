"""MiniRocket's features in ONNX's own operators, written at once: traced step by step through torch they take half a minute.

The order of every sum is that of `linear.Rocket`, so that onnxruntime rounds as torch does and no reading passes a bias in one of
them alone; the export compares the two before a file gets its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
import onnxscript

from lib.tasks.spectra.minirocket import KERNELS, TAPS, dilations

BIASES_AT_ONCE = 8  # compared together: fewer steps, at 8 times the memory
op = cast("Any", onnxscript.opset18)


def minirocket(x: Any, biases: Any) -> Any:
    """(B, P) float32 curves and (84, m) biases -> (B, 84·m) shares, as values of the graph being written."""
    points, per_kernel = int(x.shape[1]), int(biases.shape[1])
    curves, columns, start = op.Unsqueeze(x, _integers([1])), [], 0
    halves = np.arange(0, len(KERNELS), 2), np.arange(1, len(KERNELS), 2)
    for number, (dilation, count) in enumerate(zip(*(found.tolist() for found in dilations(points, per_kernel)), strict=True)):
        over_ends, inside = halves if number % 2 == 0 else halves[::-1]
        order = np.concatenate([over_ends, inside])
        results, margin = _results(curves, dilation, order), (TAPS // 2) * dilation
        whole, half = points > 2 * margin, len(over_ends)
        inner = _part(results, 1, half, len(order))
        inner = _part(inner, 2, margin, points - margin) if whole else inner
        limits = op.Gather(_part(biases, 1, start, start + count), _integers(order), axis=0)
        seen = [
            _shares(_part(results, 1, 0, half), _part(limits, 0, 0, half), count, points),
            _shares(inner, _part(limits, 0, half, len(order)), count, points - 2 * margin if whole else points),
        ]
        columns.append(op.Flatten(op.Gather(op.Concat(*seen, axis=1), _integers(np.argsort(order)), axis=1), axis=1))
        start += count
    return op.Concat(*columns, axis=1)


def _results(curves: Any, dilation: int, order: np.ndarray) -> Any:
    """(B, 84, P) of curves (B, 1, P): each kernel at each place. One that only picks a tap multiplies by 1 and 0: exactly."""
    margin = (TAPS // 2) * dilation
    taps = op.Conv(curves, _numbers(np.eye(TAPS)[:, None]), dilations=[dilation], pads=[margin, margin], kernel_shape=[TAPS])
    total, *others = op.Split(taps, num_outputs=TAPS, axis=1)
    for tap in others:
        total = op.Add(total, tap)
    tripled = op.Mul(taps, _numbers(np.array(3.0)))
    first, second, third = (op.Gather(tripled, _integers(KERNELS[order, i]), axis=1) for i in range(KERNELS.shape[1]))
    return op.Sub(op.Add(op.Add(first, second), third), total)


def _shares(results: Any, limits: Any, count: int, length: int) -> Any:
    """(B, k, m) shares of (B, k, T) results above each of m limits (k, m)."""
    wide, high = op.Unsqueeze(results, _integers([2])), op.Unsqueeze(limits, _integers([2]))
    above = [
        op.ReduceSum(op.Cast(op.Greater(wide, _part(high, 1, at, min(at + BIASES_AT_ONCE, count))), to=onnx.TensorProto.FLOAT),
                     _integers([3]), keepdims=0)
        for at in range(0, count, BIASES_AT_ONCE)
    ]  # fmt: skip
    return op.Div(above[0] if len(above) == 1 else op.Concat(*above, axis=2), _numbers(np.array(float(length))))


def _part(value: Any, axis: int, start: int, end: int) -> Any:
    """A slice along one axis."""
    return op.Slice(value, _integers([start]), _integers([end]), _integers([axis]))


def _integers(values: Sequence[int] | np.ndarray) -> Any:
    """A constant of integers."""
    return op.Constant(value=onnx.numpy_helper.from_array(np.asarray(values, np.int64)))


def _numbers(values: np.ndarray) -> Any:
    """A constant of float32."""
    return op.Constant(value=onnx.numpy_helper.from_array(values.astype(np.float32)))
