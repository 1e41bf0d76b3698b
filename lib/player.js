// Plays a film: frames that lie side by side in one picture per reel. `mount` may be called again on the same place with another
// film: the player keeps its frame, its switches and goes on playing.
const players = new WeakMap();

function mount(place, data) {
  let player = players.get(place);
  if (!player) players.set(place, (player = new Player(place, data)));
  player.take(data.film);
  return () => player.pause();
}

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "circle", "polyline"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Player {
  constructor(place, { film, words }) {
    Object.assign(this, { words, film, frame: 0, timer: null, spread: film.spread, hidden: new Set(), seen: new Set(), reels: [] });
    this.button = element("button", { type: "button" });
    this.scrub = element("input", { type: "range", min: 0, step: 1, value: 0, "aria-label": words.frame });
    this.told = element("output");
    this.where = element("span", { class: "where", "aria-hidden": "true" });
    this.switches = element("span", { class: "switches" });
    this.controls = element("div", { class: "controls" }, this.button, this.scrub, this.told, this.switches, this.where);
    this.screen = element("div", { class: "screen" });
    this.root = element("div", { class: "player", role: "group", "aria-label": words.film }, this.screen, this.controls);
    place.append(this.root);
    this.button.addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    this.scrub.addEventListener("input", () => this.step(Number(this.scrub.value)));
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  // --- another film in the same place: what the reader has set stays ---
  take(film) {
    const named = (one) => JSON.stringify([one.reels.map((reel) => reel.title), one.marks.map((mark) => mark.name)]);
    const same = this.reels.length && named(film) === named(this.film);
    this.film = film;
    for (const mark of film.marks) {
      if (!this.seen.has(mark.name) && !mark.shown) this.hidden.add(mark.name);
      this.seen.add(mark.name);
    }
    if (!same) this.build();
    film.reels.forEach((reel, i) => this.load(this.reels[i], reel));
    this.scrub.max = film.labels.length - 1;
    if (this.timer) this.play();
    this.spreadOut(this.spread);
    this.go(Math.min(this.frame, film.labels.length - 1));
  }

  build() {
    this.reels = this.film.reels.map((reel) => {
      const canvas = element("canvas", { role: "img" }), picture = element("img", { alt: "" });
      const over = element("svg", { "aria-hidden": "true" }), overAll = element("svg", { "aria-hidden": "true" });
      const one = element("div", { class: "one" }, canvas, over), all = element("div", { class: "all" }, picture, overAll);
      one.addEventListener("pointermove", (event) => this.point(event, one, made.reel));
      one.addEventListener("pointerleave", () => (this.where.textContent = ""));
      const made = { canvas, picture, over, overAll, one, all, caption: element("figcaption", {}, reel.title) };
      made.figure = element("figure", {}, made.caption, one, all);
      return made;
    });
    this.screen.replaceChildren(...this.reels.map((made) => made.figure));
    this.switches.replaceChildren(
      ...this.film.marks.map((mark) => this.toggle(mark.name, !this.hidden.has(mark.name), (on) => {
        this.hidden[on ? "delete" : "add"](mark.name);
        this.draw();
        this.drawAll();
      })),
      ...(this.film.labels.length > 1 ? [this.toggle(this.words.all, this.spread, (on) => { this.spreadOut(on); this.draw(); })] : []),
    );
  }

  toggle(name, on, change) {
    const box = element("input", { type: "checkbox" });
    box.checked = on;
    box.addEventListener("change", () => change(box.checked));
    return element("label", {}, box, name);
  }

  load(made, reel) {
    const source = `data:image/png;base64,${reel.png}`;
    made.reel = reel;
    if (made.source === source) return;
    made.source = source;
    const picture = new Image();
    picture.src = source;
    picture.decode().then(() => {
      if (made.source !== source) return; // a later film was faster
      made.sheet = picture;
      made.picture.src = source;
      this.draw();
      this.drawAll();
    });
  }

  // --- playing ---
  play() {
    clearInterval(this.timer);
    if (this.spread) this.spreadOut(false);
    this.timer = setInterval(() => {
      if (!this.root.isConnected) return this.pause();
      this.go((this.frame + 1) % this.film.labels.length);
    }, this.film.frame_ms);
    this.name();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.name();
  }

  name() {
    this.button.textContent = this.timer ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", this.timer ? this.words.pause : this.words.play);
  }

  go(frame) {
    this.frame = frame;
    this.scrub.value = frame;
    const label = this.film.labels[frame], number = `${frame + 1} / ${this.film.labels.length}`;
    this.told.textContent = label ? `${number} · ${label}` : number;
    this.scrub.setAttribute("aria-valuetext", this.told.textContent);
    this.draw();
  }

  // The reader picks a frame: it is shown alone, and stays.
  step(frame) {
    this.pause();
    this.spreadOut(false);
    this.go(frame);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], count = this.film.labels.length;
    if (event.key === " " && event.target === this.scrub) this.timer ? this.pause() : this.play();
    else if (step && event.target !== this.scrub) this.step((this.frame + step + count) % count);
    else return;
    event.preventDefault();
  }

  // --- drawing ---
  spreadOut(on) {
    this.spread = on && this.film.labels.length > 1;
    this.root.classList.toggle("spread", this.spread);
    this.root.classList.toggle("still", this.film.labels.length < 2);
    const box = this.switches.lastElementChild?.firstElementChild;
    if (box && this.film.labels.length > 1) box.checked = this.spread;
    if (this.spread && this.timer) this.pause();
    this.name();
  }

  draw() {
    for (const made of this.reels) {
      if (!made.sheet) continue;
      const { width_px: width, height_px: height, columns, gap_px: gap } = made.reel;
      const left = (this.frame % columns) * (width + gap), top = Math.floor(this.frame / columns) * (height + gap);
      if (made.canvas.width !== width || made.canvas.height !== height) Object.assign(made.canvas, { width, height });
      made.canvas.getContext("2d").drawImage(made.sheet, left, top, width, height, 0, 0, width, height);
      made.canvas.setAttribute("aria-label", `${made.reel.title} ${this.words.frame} ${this.told.textContent}`.trim());
      made.caption.hidden = !made.reel.title;
      this.mark(made, made.over, [this.frame], () => [0, 0], width, height);
    }
  }

  // The sheet of all frames, which paper shows too.
  drawAll() {
    for (const made of this.reels.filter((made) => made.sheet)) {
      const { width_px: width, height_px: height, columns, gap_px: gap } = made.reel;
      const place = (i) => [(i % columns) * (width + gap), Math.floor(i / columns) * (height + gap)];
      this.mark(made, made.overAll, this.film.labels.keys(), place, made.sheet.naturalWidth, made.sheet.naturalHeight);
    }
  }

  // Points are in detector pixels, whose centres are whole numbers; the overlay is in pixels of the picture.
  mark(made, over, frames, place, width, height) {
    const marks = this.film.marks.filter((mark) => !this.hidden.has(mark.name)), zoom = made.reel.zoom;
    over.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const at = ([x, y], [left, top]) => [left + (x + 0.5) * zoom, top + (y + 0.5) * zoom];
    const shapes = [];
    for (const frame of frames) {
      for (const mark of marks) {
        for (const point of mark.points[frame] ?? []) {
          const [cx, cy] = at(point, place(frame));
          shapes.push(element("circle", { cx, cy, r: mark.radius_px * zoom, stroke: mark.colour }));
        }
      }
    }
    if (over === made.over) {
      for (const mark of marks.filter((mark) => mark.joined)) {
        const points = mark.points.flat().map((point) => at(point, [0, 0]).join(",")).join(" ");
        shapes.push(element("polyline", { points, stroke: mark.colour }));
      }
    }
    over.replaceChildren(...shapes);
  }

  point(event, one, reel) {
    const box = one.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * reel.width_px / reel.zoom);
    const y = Math.floor((event.clientY - box.top) / box.height * reel.height_px / reel.zoom);
    this.where.textContent = `x ${x}, y ${y} px`;
  }
}
