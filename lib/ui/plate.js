// Shows a large picture whose pixels have values: zoom, contrast, marks, drawing. What the reader did to the view (zoom, contrast,
// switches) is kept for the next picture. What is drawn, and how, is in plate_paint.js.
const viewers = new WeakMap();

function mountPlate(place, data, send) {
  let viewer = viewers.get(place);
  if (!viewer) viewers.set(place, (viewer = new Viewer(place, data)));
  viewer.send = send;
  viewer.take(data);
  shelf.viewers.add(viewer);
  return () => shelf.viewers.delete(viewer);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// What is shown of a neighbour before Python tells more.
const besides = (data, to) => ({ ...data, ...to, beside: {}, marks: data.marks.map((mark) => ({ ...mark, points: [] })) });

class Viewer extends Painter {
  constructor(place, data) {
    super();
    const start = { scale: "log", low: 3, high: 10, colours: "grey", inverted: false, rings: true, mask: true, hidden: [], zoom: 0, y: 0, x: 0, tool: "move", brush: 6 };
    if (!shelf.views.has(data.key)) shelf.views.set(data.key, start);
    Object.assign(this, { view: shelf.views.get(data.key), words: data.words, pending: [], count: data.seen, tools: "", data, plate: null, at: null });
    this.canvas = element("canvas", { tabindex: 0, role: "img" });
    this.where = element("output", { class: "where" });
    this.toolbar = element("span", { class: "tools", role: "group", "aria-label": this.words.tools });
    this.legend = element("span", { class: "switches" });
    this.root = element("div", { class: "plate", role: "group", "aria-label": this.words.picture },
      element("div", { class: "controls" }, this.toolbar, this.zooming()), element("div", { class: "screen" }, this.canvas),
      element("div", { class: "controls" }, this.where), element("div", { class: "controls" }, ...this.contrast()), element("div", { class: "controls" }, this.legend));
    place.append(this.root);
    this.listen();
    new ResizeObserver(() => this.fitBox()).observe(this.root);
  }

  // --- what Python says ---
  take(data) {
    this.pending = this.pending.filter((edit) => edit.n > data.seen);
    if (this.ahead?.n <= data.seen) this.ahead = null;
    if (this.ahead) data = besides(data, this.ahead.to);
    this.turned = Math.max(this.turned ?? 0, data.at);
    this.count = Math.max(this.count, data.seen);
    const strokes = JSON.stringify(data.strokes) !== JSON.stringify(this.data.strokes) || !this.state;
    this.data = { ...data, marks: data.marks.map((mark) => ({ ...mark, points: [...mark.points] })) };
    for (const edit of this.pending) this.applyMark(edit);
    if (String(data.tools) !== this.view.tools) Object.assign(this.view, { tools: String(data.tools), tool: data.tools[0] });
    this.buildTools();
    this.buildLegend();
    if (!this.plate || this.token !== data.token) this.arrived(data.token);
    else if (strokes) this.redrawMask();
    this.later();
  }

  arrived(token) {
    const plate = shelf.plates.get(token);
    if (token !== this.data.token || !plate || this.token === token) return;
    const same = this.plate && this.plate.width === plate.width && this.plate.height === plate.height;
    Object.assign(this, { plate, token });
    this.canvas.setAttribute("aria-label", `${this.words.picture}: ${this.data.label}`);
    if (this.view.zoom && !same && (this.view.x > plate.width || this.view.y > plate.height)) this.view.zoom = 0;
    this.redrawMask();
    this.fitBox();
  }

  redrawMask() {
    if (!this.plate) return;
    this.turn = (this.turn ?? 0) + 1;
    this.state = this.plate.bad.slice();
    for (const stroke of this.data.strokes) this.rasterise(stroke);
  }

  rasterise({ good, box, points_yx: points, radius_px: radius }) {
    const { width, height } = this.plate, value = good ? 0 : 2;
    this.turn = (this.turn ?? 0) + 1;
    const fill = (y, left, right) => {
      if (y >= 0 && y < height && right >= left) this.state.fill(value, y * width + Math.max(0, left), y * width + Math.min(width - 1, right) + 1);
    };
    if (box) for (let y = Math.max(0, box[0]); y < Math.min(height, box[1]); y++) fill(y, box[2], box[3] - 1);
    for (const [y, x] of points ?? []) {
      for (let dy = -radius; dy <= radius; dy++) {
        const reach = Math.floor(Math.sqrt(radius * radius - dy * dy));
        if (x + reach >= 0 && x - reach < width) fill(y + dy, x - reach, x + reach);
      }
    }
  }

  // --- controls ---
  button(text, name, act) {
    const made = element("button", { type: "button", "aria-label": name, title: name }, text);
    made.addEventListener("click", act);
    return made;
  }

  buildTools() {
    const named = JSON.stringify([this.data.tools, this.view.tool]);
    if (named === this.tools) return;
    this.tools = named;
    const buttons = this.data.tools.length > 1 ? this.data.tools.map((tool) => {
      const made = this.button(`${ICONS[tool]} ${this.words[tool]}`, this.words[tool], () => { this.view.tool = tool; this.buildTools(); });
      made.setAttribute("aria-pressed", tool === this.view.tool);
      return made;
    }) : [];
    if (["brush", "erase"].includes(this.view.tool)) buttons.push(this.slider(this.words.radius, 0, 40, this.view.brush, (value) => { this.view.brush = value; return `${value} px`; }));
    this.toolbar.replaceChildren(...buttons);
    this.canvas.dataset.tool = this.view.tool;
  }

  zooming() {
    const around = (factor) => () => this.zoomAt(factor, this.canvas.width / 2, this.canvas.height / 2);
    return element("span", { class: "tools" }, this.button("−", this.words.smaller, around(1 / 1.5)), this.button("+", this.words.larger, around(1.5)),
      this.button(this.words.fit, this.words.fit, () => this.fit()));
  }

  slider(name, low, high, value, act) {
    const input = element("input", { type: "range", min: low, max: high, step: 1, "aria-label": name }), told = element("output");
    const say = () => { told.textContent = act(Number(input.value)); input.setAttribute("aria-valuetext", told.textContent); };
    input.value = value;
    input.addEventListener("input", () => { say(); this.later(); });
    say();
    const made = element("label", {}, name, input, told);
    made.say = say;
    return made;
  }

  select(name, options, key) {
    const made = element("select", { "aria-label": name }, ...options.map((option) => element("option", { value: option }, this.words[option])));
    made.value = this.view[key];
    made.addEventListener("change", () => { this.view[key] = made.value; this.later(); });
    return element("label", {}, name, made);
  }

  toggle(name, on, change, colour = "") {
    const box = element("input", { type: "checkbox" });
    box.checked = on;
    box.addEventListener("change", () => { change(box.checked); this.later(); });
    return element("label", {}, box, ...(colour ? [element("i", { style: `border-color: ${colour}` })] : []), name);
  }

  contrast() {
    const value = (percent) => (this.plate ? this.number(percentile(this.plate.sorted, percent)) : "–");
    const { words, view } = this;
    this.limits = [
      this.slider(words.low, 0, LOW.length - 1, view.low, (i) => { view.low = i; return `${LOW[i]} % = ${value(LOW[i])}`; }),
      this.slider(words.high, 0, HIGH.length - 1, view.high, (i) => { view.high = i; return `${HIGH[i]} % = ${value(HIGH[i])}`; }),
    ];
    return [this.select(words.scale, ["linear", "sqrt", "log"], "scale"), ...this.limits, this.select(words.colours, ["grey", "viridis"], "colours"),
      this.toggle(words.inverted, view.inverted, (on) => (view.inverted = on))];
  }

  buildLegend() {
    const hidden = (name) => this.view.hidden.includes(name);
    const named = JSON.stringify([this.data.marks.map((mark) => [mark.name, mark.points.length]), this.view.hidden]);
    if (named === this.legendNamed) return;
    this.legendNamed = named;
    this.legend.replaceChildren(
      this.toggle(this.words.rings, this.view.rings, (on) => (this.view.rings = on)),
      this.toggle(this.words.mask, this.view.mask, (on) => (this.view.mask = on)),
      ...this.data.marks.map((mark) => this.toggle(`${mark.name}: ${mark.points.length}`, !hidden(mark.name), (on) => {
        this.view.hidden = this.view.hidden.filter((name) => name !== mark.name).concat(on ? [] : [mark.name]);
      }, MARKS[mark.colour])),
    );
  }

  // --- place: `view.y`, `view.x` are in the middle of the canvas, `view.zoom` canvas pixels a pixel; 0 fits the whole ---
  fitBox() {
    if (!this.plate || !this.root.clientWidth) return;
    const css = this.canvas.parentElement.clientWidth, ratio = globalThis.devicePixelRatio || 1;
    const tall = Math.max(320, Math.min(css * this.plate.height / this.plate.width, 760));
    const [width, height] = [Math.round(css * ratio), Math.round(tall * ratio)];
    this.canvas.style.height = `${tall}px`;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.ratio = ratio;
    for (const limit of this.limits) limit.say();
    this.draw();
  }

  fit() {
    this.view.zoom = 0;
    this.later();
  }

  frame() {
    const { width, height } = this.plate, whole = Math.min(this.canvas.width / width, this.canvas.height / height);
    const zoom = this.view.zoom || whole, [y, x] = this.view.zoom ? [this.view.y, this.view.x] : [(height - 1) / 2, (width - 1) / 2];
    return { zoom, whole, left: x - this.canvas.width / 2 / zoom, top: y - this.canvas.height / 2 / zoom };
  }

  zoomAt(factor, px, py) {
    if (!this.plate) return;
    const { zoom, whole, left, top } = this.frame(), next = Math.min(Math.max(zoom * factor, whole), 120 * this.ratio);
    if (next <= whole) return this.fit();
    const [x, y] = [left + px / zoom, top + py / zoom];
    Object.assign(this.view, { zoom: next, x: x - (px - this.canvas.width / 2) / next, y: y - (py - this.canvas.height / 2) / next });
    this.later();
  }

  move(dx, dy) {
    const { zoom, left, top } = this.frame(), half = [this.canvas.width / 2 / zoom, this.canvas.height / 2 / zoom], { width, height } = this.plate;
    const inside = (value, size) => Math.min(Math.max(value, 0), size - 1);
    Object.assign(this.view, { zoom, x: inside(left + half[0] - dx / zoom, width), y: inside(top + half[1] - dy / zoom, height) });
    this.later();
  }

  // Array position (y, x) under the pointer, in pixels whose centres are whole numbers.
  under(event) {
    const box = this.canvas.getBoundingClientRect(), { zoom, left, top } = this.frame();
    return { y: top + (event.clientY - box.top) * this.ratio / zoom, x: left + (event.clientX - box.left) * this.ratio / zoom };
  }

  // --- hands ---
  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.zoomAt(1.2 ** (-Math.sign(event.deltaY)), (event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", () => { this.hold = null; this.later(); });
    canvas.addEventListener("pointerleave", () => { this.at = null; this.where.textContent = ""; });
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  press(event) {
    if (!this.plate || event.button !== 0) return;
    canvasFocus(this.canvas);
    this.canvas.setPointerCapture(event.pointerId);
    this.hold = { from: this.under(event), px: event.clientX, py: event.clientY, moved: false, points: [] };
    if (["brush", "erase"].includes(this.view.tool)) this.dab(event);
  }

  drag(event) {
    if (!this.plate) return;
    this.at = this.under(event);
    this.tell();
    if (!this.hold) return;
    const [dx, dy] = [event.clientX - this.hold.px, event.clientY - this.hold.py];
    if (!this.hold.moved && Math.hypot(dx, dy) < CLICK_PX) return;
    this.hold.moved = true;
    if (["brush", "erase"].includes(this.view.tool)) this.dab(event);
    else if (this.view.tool === "box") this.later();
    else {
      this.move(dx * this.ratio, dy * this.ratio);
      Object.assign(this.hold, { px: event.clientX, py: event.clientY });
    }
  }

  dab(event) {
    const at = this.under(event), point = [Math.round(at.y), Math.round(at.x)], last = this.hold.points.at(-1) ?? point;
    const steps = Math.max(1, Math.ceil(Math.hypot(point[0] - last[0], point[1] - last[1]) / Math.max(1, this.view.brush / 2)));
    for (let i = 1; i <= steps; i++) this.hold.points.push([0, 1].map((axis) => Math.round(last[axis] + (point[axis] - last[axis]) * i / steps)));
    this.rasterise({ good: this.view.tool === "erase", points_yx: this.hold.points.slice(-steps), radius_px: this.view.brush });
    this.later();
  }

  release(event) {
    const hold = this.hold;
    this.hold = null;
    if (!hold || !this.plate) return;
    const at = this.under(event), { tool } = this.view;
    if (tool === "mark" && !hold.moved) this.mark(at, event.altKey);
    if (tool === "box" && hold.moved) {
      const ys = [hold.from.y, at.y].map(Math.round).sort((a, b) => a - b), xs = [hold.from.x, at.x].map(Math.round).sort((a, b) => a - b);
      const box = [Math.max(0, ys[0]), Math.min(this.plate.height, ys[1] + 1), Math.max(0, xs[0]), Math.min(this.plate.width, xs[1] + 1)];
      if (box[0] < box[1] && box[2] < box[3]) this.stroke({ box, points_yx: [], radius_px: 0, good: event.altKey });
    }
    if (["brush", "erase"].includes(tool)) this.stroke({ box: null, points_yx: hold.points, radius_px: this.view.brush, good: tool === "erase" });
    this.later();
  }

  key(event) {
    const middle = [this.canvas.width / 2, this.canvas.height / 2], far = 60;
    const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
    if (event.ctrlKey || event.metaKey || !this.plate) return;
    const sends = this.data.keys[event.key];
    if (event.key === "+" || event.key === "=") this.zoomAt(1.5, ...middle);
    else if (event.key === "-") this.zoomAt(1 / 1.5, ...middle);
    else if (event.key === "0") this.fit();
    else if (moves && event.target === this.canvas) this.move(...moves);
    else if (sends) this.go(sends);
    else return;
    event.preventDefault();
  }

  // --- what Python hears: every edit until it says that it has seen it, so that none is lost ---
  say(edit) {
    const told = { ...edit, n: ++this.count, row: this.data.row };
    this.pending.push(told);
    this.applyMark(told);
    this.send(this.pending);
  }

  // A neighbour that the browser holds is shown at once: Python's answer brings its marks.
  go(kind) {
    const to = this.data.beside[kind];
    this.say({ kind });
    if (!to || !shelf.plates.has(to.token)) return;
    this.ahead = { n: this.count, to };
    this.data = besides(this.data, to);
    this.buildLegend();
    this.arrived(to.token);
  }

  // Python is about to tell more of another picture; told of one before what it has told, the viewer stays: a page that is late
  // draws what two runs said at once.
  turnTo(to) {
    if (this.ahead || to.at <= (this.turned ?? 0)) return;
    this.turned = to.at;
    if (to.token === this.data.token) return;
    this.data = besides(this.data, to);
    this.buildLegend();
    this.arrived(to.token);
  }

  stroke(stroke) {
    this.rasterise(stroke);
    this.say({ kind: "stroke", stroke });
  }

  mark(at, exact) {
    const marks = this.data.marks.find((mark) => mark.name === this.data.editable);
    if (!marks || at.y < -0.5 || at.x < -0.5 || at.y > this.plate.height - 0.5 || at.x > this.plate.width - 0.5) return;
    const near = Math.max(8 * this.ratio / this.frame().zoom, 3), away = ([y, x]) => Math.hypot(y - at.y, x - at.x);
    const nearest = marks.points.reduce((best, point) => (best && away(best) <= away(point) ? best : point), null);
    if (nearest && away(nearest) <= near) return this.say({ kind: "remove", y: nearest[0], x: nearest[1] });
    const { y, x } = exact ? at : this.snapped(at);
    this.say({ kind: "add", y: Math.round(y * 100) / 100, x: Math.round(x * 100) / 100 });
  }

  // The middle of mass of the 3 × 3 pixels around the brightest good one nearby.
  snapped({ y, x }) {
    const { width, height, pixels, bad } = this.plate, reach = 2;
    let [by, bx, best] = [Math.round(y), Math.round(x), -Infinity];
    for (let v = Math.round(y) - reach; v <= Math.round(y) + reach; v++) {
      for (let u = Math.round(x) - reach; u <= Math.round(x) + reach; u++) {
        const i = v * width + u;
        if (v >= 0 && u >= 0 && v < height && u < width && !bad[i] && pixels[i] > best) [by, bx, best] = [v, u, pixels[i]];
      }
    }
    const around = [];
    for (let v = by - 1; v <= by + 1; v++) for (let u = bx - 1; u <= bx + 1; u++) if (v >= 0 && u >= 0 && v < height && u < width && !bad[v * width + u]) around.push([v, u, pixels[v * width + u]]);
    const floor = Math.min(...around.map((one) => one[2])), mass = around.reduce((sum, one) => sum + one[2] - floor, 0);
    if (!(mass > 0)) return { y: by, x: bx };
    return { y: around.reduce((sum, one) => sum + one[0] * (one[2] - floor), 0) / mass, x: around.reduce((sum, one) => sum + one[1] * (one[2] - floor), 0) / mass };
  }

  applyMark(edit) {
    const marks = this.data.marks.find((mark) => mark.name === this.data.editable);
    if (!marks || edit.row !== this.data.row) return;
    if (edit.kind === "add") marks.points.push([edit.y, edit.x]);
    if (edit.kind === "remove") marks.points = marks.points.filter(([y, x]) => y !== edit.y || x !== edit.x);
    this.buildLegend();
    this.later();
  }
}
