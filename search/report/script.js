"use strict";
// Unpacks plotly.js, then draws each figure into its element.
(async () => {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const hasMouse = matchMedia("(pointer: fine)").matches;
  for (const chart of document.querySelectorAll(".chart")) {
    const { data, layout } = figures[chart.dataset.figure];
    layout.dragmode = hasMouse ? "zoom" : false; // a finger scrolls the page
    await Plotly.newPlot(chart, data, layout, { responsive: true, displayModeBar: false });
    chart.on("plotly_afterplot", () => makeScalable(chart));
    makeScalable(chart);
  }
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => {
  console.error(error);
  for (const chart of document.querySelectorAll(".chart:empty")) {
    chart.textContent = `This browser cannot draw the figure: ${error.message}`;
  }
});

// A view box lets print scale what was drawn for the screen.
function makeScalable(chart) {
  for (const svg of chart.querySelectorAll(".main-svg")) {
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  }
}
