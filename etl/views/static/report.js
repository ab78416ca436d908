// Draws the days' table as charts, and folds the table. Without it the table stays.
(() => {
  "use strict";
  const rows = [...document.querySelectorAll("#by-day tbody tr")].reverse();
  if (!rows.length || typeof uPlot === "undefined") return;
  const day = 86400;
  const days = rows.map((row) => Date.parse(row.dataset.day + "T00:00:00Z") / 1000);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let charts = [];
  const width = (place) => Math.max(place.clientWidth, 200);
  const draw = () => {
    charts.forEach(({ chart }) => chart.destroy());
    charts = [...document.querySelectorAll("[data-chart]")].map((place) => {
      const values = rows.map((row) => Number(row.dataset[place.dataset.chart]));
      const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      const chart = new uPlot({
        title: place.dataset.title, width: width(place), height: 220, tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "UTC"),
        legend: { live: true }, cursor: { y: false },
        scales: { x: { range: (_, from, to) => [from - day / 2, to + day / 2] }, y: { range: (_, from, to) => [Math.min(0, from), Math.max(to * 1.05, 1)] } },
        axes: [{ ...axis, values: "{YYYY}-{MM}-{DD}", space: 90 }, { ...axis, size: 80 }],
        series: [
          { label: "Day", value: "{YYYY}-{MM}-{DD}" },
          { label: place.dataset.title, stroke: colour("--bar-reading"), fill: colour("--bar-reading"), paths: uPlot.paths.bars({ size: [0.8, 60] }), points: { show: false } },
        ],
      }, [days, values], place);
      chart.root.querySelector("canvas").setAttribute("role", "img");
      chart.root.querySelector("canvas").setAttribute("aria-label", place.dataset.title + " by day; the table below has the same numbers");
      return { chart, place };
    });
  };
  draw();
  document.querySelectorAll("details[data-folds]").forEach((details) => { details.open = false; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", () => charts.forEach(({ chart, place }) => chart.setSize({ width: width(place), height: 220 })));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
})();
