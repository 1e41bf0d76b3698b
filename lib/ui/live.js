// A figure that is redrawn where it stands. Streamlit's own element is torn down and built anew for every change of its figure;
// the Plotly that it brings along redraws in place, and keeps what the reader zoomed or switched off.
const HEIGHT_PX = 450; // Plotly's own, where a figure has none
const LATEST_MS = 1000;
const CORNERS = "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z";

const plotly = () => new Promise((found) => {
  const look = () => (window.Plotly ? found(window.Plotly) : setTimeout(look, 50));
  look();
});

// What is in view or only redrawn is drawn at once, the rest when the browser has nothing else to do.
function inTurn(place, draw) {
  const { top, bottom } = place.getBoundingClientRect();
  if (place.data || (top < window.innerHeight && bottom > 0)) draw();
  else if (window.requestIdleCallback) window.requestIdleCallback(draw, { timeout: LATEST_MS });
  else setTimeout(draw);
}

// One function for all calls: with a config that differs, Plotly draws the figure anew.
const toggleScreen = (place) => (document.fullscreenElement ? document.exitFullscreen() : place.requestFullscreen());
const icon = { width: 24, height: 24, path: CORNERS };
const fullScreen = (title) => ({ name: "fullScreen", title, icon, click: toggleScreen });

function fitScreen({ currentTarget: place }) {
  const full = document.fullscreenElement === place;
  place.style.background = full ? getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor : "";
  const size = full ? { width: window.innerWidth, height: window.innerHeight } : { width: null, height: place.height };
  window.Plotly.relayout(place, { ...size, autosize: !full });
}

// Drawing ends some time later; of a figure that is gone by then it does not matter how.
function keep(place, drawing) {
  place.drawing = Promise.resolve(drawing).catch((error) => {
    if (place.isConnected) throw error;
  });
}

function made(parent) {
  const place = document.createElement("div");
  let width = 0;
  place.className = "live-figure";
  place.seen = new ResizeObserver(([{ contentRect }]) => {
    if (place.data && contentRect.width && contentRect.width !== width) keep(place, window.Plotly.Plots.resize(place));
    width = contentRect.width;
  });
  place.seen.observe(parent);
  place.addEventListener("fullscreenchange", fitScreen);
  parent.append(place);
  return place;
}

export default function ({ parentElement, data }) {
  const place = parentElement.querySelector(":scope > .live-figure") ?? made(parentElement);
  if (place.wanted !== data.figure) {
    const { data: traces, layout } = JSON.parse(data.figure);
    place.wanted = data.figure;
    place.height = layout.height ?? HEIGHT_PX;
    place.style.minHeight = `${place.height}px`;
    plotly().then((library) => inTurn(place, () => {
      if (place.wanted !== data.figure) return; // a later one is on its way
      if (!place.isConnected) return void (place.wanted = ""); // the page is left, or comes back
      keep(place, library.react(place, traces, layout, { ...data.config, modeBarButtonsToAdd: [fullScreen(data.full)] }));
    }));
  }
  return () => {
    place.seen.disconnect();
    place.remove();
    Promise.resolve(place.drawing).finally(() => window.Plotly?.purge(place)); // what still draws needs what a purge removes
  };
}
