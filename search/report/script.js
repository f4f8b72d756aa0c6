"use strict";
// Unpacks plotly.js, then draws each figure into the element that names it.
(async () => {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const hasMouse = matchMedia("(pointer: fine)").matches;
  for (const place of document.querySelectorAll(".chart")) {
    const { data, layout } = figures[place.dataset.figure];
    layout.dragmode = hasMouse ? "zoom" : false; // a finger scrolls the page
    await Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
    place.on("plotly_afterplot", () => scalable(place));
    scalable(place);
  }
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => {
  console.error(error);
  for (const place of document.querySelectorAll(".chart:empty")) {
    place.textContent = `This browser cannot draw the figure: ${error.message}`;
  }
});

// With a view box, print may scale what was drawn for the screen.
function scalable(place) {
  for (const svg of place.querySelectorAll(".main-svg")) {
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  }
}
