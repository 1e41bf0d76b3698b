// Pixels of large pictures, and how they are drawn. Pixels come once, as bytes; marks, strokes and words as plain values that may
// change often. Both meet here by a token. A picture stays until another one takes its slot.
const shelf = (globalThis.lightbenchPlates ??= { plates: new Map(), slots: new Map(), viewers: new Set(), views: new Map() });
const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array };
const LEVELS = 16384, SAMPLE = 50000, VALUES_FROM_PX = 30, CLICK_PX = 4;
const LOW = [0, 0.1, 0.5, 1, 2, 5, 10, 25, 50, 75], HIGH = [50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 100];
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
const MARKS = ["#35c8ff", "#ffa41b", "#ff6ae0", "#7dff5c", "#fff04a", "#ff5a52"], MASKED = [178, 72, 40], DRAWN = [232, 150, 0];
const ICONS = { move: "✥", mark: "◎", box: "▭", brush: "●", erase: "○" };

// --- pixels ---------------------------------------------------------------------------------------------------------------
function put(bytes) {
  const from = 4 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const to = JSON.parse(new TextDecoder().decode(bytes.subarray(4, from))), { token, slot } = to;
  if (to.at < (shelf.slots.get(slot)?.at ?? 0)) return; // Streamlit hands out again what stood here before
  shelf.slots.set(slot, to);
  const wanted = new Set([...shelf.slots.values()].map((held) => held.token));
  for (const held of [...shelf.plates.keys()]) if (!wanted.has(held)) shelf.plates.delete(held);
  if (shelf.plates.has(token)) return;
  const own = bytes.slice(from).buffer, start = 4 + new DataView(own).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(own, 4, start - 4))), [height, width] = about.shape, n = height * width;
  const wide = new TYPES[about.type](own, start, about.band ? about.band.listed : n), steps = start + wide.byteLength;
  const small = about.band ? Math.ceil(n * about.band.bits / 8) : 0, pixels = small ? widened(new Uint8Array(own, steps, small), wide, about.band, n) : wide;
  const bits = new Uint8Array(own, steps + small), bad = new Uint8Array(n);
  for (let byte = 0; byte < bits.length; byte++) {
    if (bits[byte] !== 255) for (let i = 8 * byte; i < Math.min(8 * byte + 8, n); i++) bad[i] = 1 - ((bits[byte] >> (i & 7)) & 1);
  }
  shelf.plates.set(token, { ...about, height, width, pixels, bad, sorted: sample(pixels, bad) });
  if (to.show) turn(to);
  for (const viewer of shelf.viewers) viewer.arrived(token);
}

function turn(to) {
  for (const viewer of shelf.viewers) if (viewer.data.key === to.key) viewer.turnTo(to);
}

// Pixels that travelled as bytes or half bytes (lib/plate.py, `_banded`).
function widened(steps, listed, { bits, lowest, largest }, n) {
  const pixels = new listed.constructor(n), top = 2 ** bits - 2, half = bits === 4;
  for (let i = 0, k = 0; i < n; i++) {
    const step = half ? (steps[i >> 1] >> (4 * (i & 1))) & 15 : steps[i];
    pixels[i] = step < top ? lowest + step : step === top ? largest : listed[k++];
  }
  return pixels;
}

// Good pixels in order, some of them where there are many: for percentiles.
function sample(pixels, bad) {
  const step = Math.max(1, Math.floor(pixels.length / SAMPLE)), found = [];
  for (let i = 0; i < pixels.length; i += step) if (!bad[i] && Number.isFinite(pixels[i])) found.push(pixels[i]);
  return Float64Array.from(found.length ? found : [0]).sort();
}

const percentile = (sorted, percent) => sorted[Math.round((sorted.length - 1) * percent / 100)];

// --- drawing: what a Viewer (plate.js) inherits; it has `plate`, `data`, `view`, `canvas`, `ratio`, `words` and `hold` ----------------
class Painter {
  // --- words under the pointer ---
  number(value) {
    return Number.isInteger(value) ? String(value) : value.toPrecision(4);
  }

  tell() {
    const [y, x] = [Math.round(this.at.y), Math.round(this.at.x)], { width, height, pixels, unit } = this.plate;
    if (y < 0 || x < 0 || y >= height || x >= width) return (this.where.textContent = "");
    const parts = [`y ${y}, x ${x}`, `${this.number(pixels[y * width + x])} ${unit}`.trim()], d = this.resolution(y, x);
    if (d) parts.push(`${d.toFixed(2)} Å`);
    if (this.masked(y * width + x)) parts.push(this.words.masked);
    this.where.textContent = parts.join(" · ");
  }

  resolution(y, x) {
    const { center, facets, resolution } = this.plate, facet = facets.find((one) => y >= one.y0 && y < one.y1 && x >= one.x0 && x < one.x1);
    if (!resolution || !(center || facet)) return null;
    const along = (axis) => facet.origin_yx[axis] + (y - facet.y0) * facet.ss_yx[axis] + (x - facet.x0) * facet.fs_yx[axis];
    const [dy, dx] = facet ? [along(0), along(1)] : [y - center[0], x - center[1]];
    const [sizeUm, distanceMm, wavelength] = resolution, r = Math.hypot(dy, dx) * sizeUm / 1000;
    return r > 0 ? wavelength / (2 * Math.sin(Math.atan2(r, distanceMm + (facet?.offset_mm ?? 0)) / 2)) : null;
  }

  masked(i) {
    return this.state[i] > 0;
  }

  // --- drawing ---
  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  // Colours of LEVELS steps from the lower to the upper limit, as the canvas keeps them. On a logarithmic scale one count more
  // than the lower limit is one step, as far as there are levels.
  palette() {
    const { scale, inverted, colours } = this.view, steep = Math.min(Math.max((LEVELS - 1) / this.between().gain, 1), 10000);
    const named = JSON.stringify([scale, inverted, colours, steep]);
    if (this.paletteNamed === named) return this.colours;
    const bend = { linear: (t) => t, sqrt: Math.sqrt, log: (t) => Math.log1p(steep * t) / Math.log1p(steep) }[scale];
    const table = colours === "grey" ? [[0, 0, 0], [255, 255, 255]] : VIRIDIS;
    this.paletteNamed = named;
    this.colours = Uint32Array.from({ length: LEVELS }, (_, i) => {
      const t = bend(i / (LEVELS - 1)), place = (inverted ? 1 - t : t) * (table.length - 1), k = Math.min(Math.floor(place), table.length - 2);
      return packed(table[k].map((from, c) => Math.round(from + (table[k + 1][c] - from) * (place - k))));
    });
    return this.colours;
  }

  // The contrast's lower limit, and levels a unit of the pixels' values.
  between() {
    const { sorted } = this.plate, low = percentile(sorted, LOW[this.view.low]), high = percentile(sorted, HIGH[this.view.high]);
    return { low, gain: (LEVELS - 1) / Math.max(high - low, 1e-9) };
  }

  draw() {
    if (!this.plate || !this.canvas.width || !this.state) return;
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    if (this.image?.width !== width || this.image?.height !== height) this.image = context.createImageData(width, height);
    const out = new Uint32Array(this.image.data.buffer), { zoom, left, top } = this.frame();
    const across = spans(width, left, zoom, this.plate.width), down = spans(height, top, zoom, this.plate.height);
    const { scale, low, high, colours, inverted, mask } = this.view;
    const named = JSON.stringify([this.token, this.turn, width, height, zoom, left, top, scale, low, high, colours, inverted, mask]);
    if (named !== this.filled) this.fill(out, across, down, zoom >= 1); // other marks alone need no new ground
    this.filled = named;
    context.putImageData(this.image, 0, 0);
    if (zoom / this.ratio >= VALUES_FROM_PX) this.values(context);
    if (this.view.rings) this.rings(context);
    this.circles(context);
    if (this.hold?.moved && this.view.tool === "box" && this.at) this.band(context);
  }

  fill(out, across, down, near) {
    const paint = this.painter();
    for (let j = 0; j < down.from.length; j++) {
      const row = out.subarray(j * across.from.length, (j + 1) * across.from.length), same = j && down.from[j - 1] === down.from[j] && down.to[j - 1] === down.to[j];
      if (down.from[j] >= down.to[j]) row.fill(0);
      else if (same && near) out.copyWithin(j * row.length, (j - 1) * row.length, j * row.length);
      else if (near) this.nearRow(row, down.from[j], across, paint);
      else this.farRow(row, down.from[j], down.to[j], across, paint);
    }
  }

  // What colour a value has, and a pixel that is masked (1) or drawn over (2).
  painter() {
    const colours = this.palette(), { low, gain } = this.between(), masked = packed(MASKED), drawn = packed(DRAWN), top = LEVELS - 1;
    return (value, state) => (state ? (state === 2 ? drawn : masked) : colours[Math.min(Math.max((value - low) * gain, 0), top) | 0]);
  }

  nearRow(row, y, across, paint) {
    const { width, pixels } = this.plate, { state } = this, overlay = this.view.mask;
    for (let i = 0; i < row.length; i++) {
      const p = y * width + across.from[i];
      row[i] = across.from[i] < across.to[i] ? paint(pixels[p], overlay ? state[p] : 0) : 0;
    }
  }

  // Where several pixels share one of the canvas, the largest good one is shown: a spot of two pixels must not fade away.
  farRow(row, y0, y1, across, paint) {
    const { width, pixels } = this.plate, { state } = this, overlay = this.view.mask, count = row.length;
    const best = new Float64Array(count).fill(-Infinity), bad = new Uint8Array(count);
    const column = across.columns, first = across.from[0], last = across.to[count - 1];
    for (let y = y0; y < y1; y++) {
      for (let x = first, p = y * width + first; x < last; x++, p++) {
        const i = column[x];
        if (overlay && state[p]) bad[i] |= state[p];
        else if (pixels[p] > best[i]) best[i] = pixels[p];
      }
    }
    for (let i = 0; i < count; i++) row[i] = best[i] > -Infinity ? paint(best[i], 0) : across.from[i] < across.to[i] ? paint(0, bad[i] & 2 ? 2 : 1) : 0;
  }

  values(context) {
    const { zoom, left, top } = this.frame(), { width, height, pixels } = this.plate, colours = this.palette(), limits = this.between();
    context.font = `${Math.min(zoom / 4, 15 * this.ratio)}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let y = Math.max(0, Math.ceil(top - 0.5)); y < Math.min(height, top + this.canvas.height / zoom + 0.5); y++) {
      for (let x = Math.max(0, Math.ceil(left - 0.5)); x < Math.min(width, left + this.canvas.width / zoom + 0.5); x++) {
        const value = pixels[y * width + x], shade = colours[level(value, limits)];
        const bright = 0.3 * (shade & 255) + 0.59 * ((shade >> 8) & 255) + 0.11 * ((shade >> 16) & 255);
        context.fillStyle = this.view.mask && this.masked(y * width + x) ? "#fff" : bright > 130 ? "#111" : "#eee";
        context.fillText(this.number(value), (x - left) * zoom, (y - top) * zoom);
      }
    }
  }

  rings(context) {
    const { center, rings, curves } = this.plate, { zoom, left, top } = this.frame();
    Object.assign(context, { strokeStyle: "rgba(120, 200, 255, .8)", lineWidth: this.ratio, textAlign: "left", textBaseline: "middle", font: `${12 * this.ratio}px sans-serif` });
    context.setLineDash([6 * this.ratio, 5 * this.ratio]);
    for (const [label, arcs] of curves) this.curve(context, label, arcs.map((arc) => arc.map(([y, x]) => [(x - left) * zoom, (y - top) * zoom])));
    if (!center) return context.setLineDash([]);
    const [cx, cy] = [(center[1] - left) * zoom, (center[0] - top) * zoom];
    for (const [label, radius] of rings) {
      context.beginPath();
      context.arc(cx, cy, radius * zoom, 0, 2 * Math.PI);
      context.stroke();
      this.outlined(context, label, cx + radius * zoom * Math.SQRT1_2 + 3 * this.ratio, cy - radius * zoom * Math.SQRT1_2);
    }
    context.setLineDash([]);
    context.beginPath();
    for (const [dx, dy] of [[6, 0], [0, 6]]) { context.moveTo(cx - dx * this.ratio, cy - dy * this.ratio); context.lineTo(cx + dx * this.ratio, cy + dy * this.ratio); }
    context.stroke();
  }

  // A ring in pieces, one or more for each module; its name stands at the middle of the longest.
  curve(context, label, arcs) {
    context.beginPath();
    for (const arc of arcs) arc.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
    const longest = arcs.reduce((best, arc) => (arc.length > best.length ? arc : best)), [x, y] = longest[longest.length >> 1];
    this.outlined(context, label, x + 3 * this.ratio, y);
  }

  outlined(context, text, x, y) {
    const dashes = context.getLineDash(), style = context.strokeStyle, line = context.lineWidth;
    context.setLineDash([]);
    Object.assign(context, { strokeStyle: "rgba(0, 0, 0, .75)", lineWidth: 3 * this.ratio, fillStyle: "#9fd8ff" });
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
    context.setLineDash(dashes);
    Object.assign(context, { strokeStyle: style, lineWidth: line });
  }

  circles(context) {
    const { zoom, left, top } = this.frame();
    for (const mark of this.data.marks) {
      if (this.view.hidden.includes(mark.name)) continue;
      const radius = Math.max((5 + 2.5 * mark.colour) * this.ratio, (2.5 + 0.4 * mark.colour) * zoom);
      for (const [line, style] of [[3.5, "rgba(0, 0, 0, .55)"], [1.75, MARKS[mark.colour]]]) {
        Object.assign(context, { lineWidth: line * this.ratio, strokeStyle: style });
        for (const [y, x] of mark.points) {
          context.beginPath();
          context.arc((x - left) * zoom, (y - top) * zoom, radius, 0, 2 * Math.PI);
          context.stroke();
        }
      }
    }
  }

  band(context) {
    const { zoom, left, top } = this.frame(), { from } = this.hold;
    Object.assign(context, { strokeStyle: "#ffa41b", lineWidth: 2 * this.ratio });
    context.strokeRect((from.x - left) * zoom, (from.y - top) * zoom, (this.at.x - from.x) * zoom, (this.at.y - from.y) * zoom);
  }
}

const level = (value, { low, gain }) => Math.min(Math.max(Math.floor((value - low) * gain), 0), LEVELS - 1);
const canvasFocus = (canvas) => canvas.focus({ preventScroll: true });
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// Which pixels lie under each of `count` canvas pixels: from … to, empty outside the picture; and under which one each lies.
function spans(count, first, zoom, size) {
  const from = new Int32Array(count), to = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const low = Math.floor(first + i / zoom + 0.5), high = zoom >= 1 ? low + 1 : Math.max(Math.floor(first + (i + 1) / zoom + 0.5), low + 1);
    from[i] = Math.min(Math.max(low, 0), size);
    to[i] = Math.min(Math.max(high, 0), size);
  }
  const columns = new Int32Array(size);
  for (let i = 0; i < count; i++) columns.fill(i, from[i], to[i]);
  return { from, to, columns };
}
