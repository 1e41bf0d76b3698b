// A figure that is redrawn where it stands. Streamlit's own element is torn down and built anew for every change of its figure;
// the Plotly that it brings along redraws in place, and keeps what the reader zoomed or switched off.
const plotly = () => new Promise((found) => {
  const look = () => (window.Plotly ? found(window.Plotly) : setTimeout(look, 50));
  look();
});

function made(parent) {
  const place = document.createElement("div");
  let width = 0;
  place.seen = new ResizeObserver(([{ contentRect }]) => {
    if (place.data && contentRect.width && contentRect.width !== width) window.Plotly.Plots.resize(place);
    width = contentRect.width;
  });
  place.seen.observe(parent);
  parent.append(place);
  return place;
}

export default function ({ parentElement, data }) {
  const place = parentElement.querySelector(":scope > .live-figure") ?? made(parentElement);
  place.className = place.className || "live-figure";
  place.wanted = data.figure;
  plotly().then((library) => {
    if (place.wanted !== data.figure) return; // a later one is on its way
    const { data: traces, layout } = JSON.parse(data.figure);
    library.react(place, traces, layout, data.config);
  });
  return () => {
    place.seen.disconnect();
    window.Plotly?.purge(place);
    place.remove();
  };
}
