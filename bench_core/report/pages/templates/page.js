"use strict";
(() => {
  // Charts: drawn when they come near the window, with Vega's expression interpreter, so that the page needs no eval.
  const dark = () => document.documentElement.dataset.theme === "dark";
  const config = () => {
    const ink = dark() ? "#e6e6e3" : "#1d1d1f", faint = dark() ? "#3a3b3e" : "#e3e3df", line = dark() ? "#8e8f93" : "#77777c";
    const font = "system-ui, sans-serif";
    return {
      background: "transparent", font, view: {stroke: faint},
      axis: {labelColor: ink, titleColor: ink, gridColor: faint, domainColor: line, tickColor: line,
             labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelLimit: window.innerWidth < 600 ? 100 : 180},
      legend: {labelColor: ink, titleColor: ink, labelFontSize: 11, labelLimit: 200},
      text: {color: ink}, rule: {color: ink}, title: {color: ink},
    };
  };
  const BRIGHT = {"0072B2": "#4da6e8", "D55E00": "#ff8a3d", "009E73": "#2cc79a", "7F6A00": "#c9ae3a"};  // as the legend in page.css
  // A long name is cut in its middle, since those of variants differ at the end.
  const named = (axis, panel) => {
    const limit = Math.max(100, 0.28 * panel.clientWidth), most = Math.floor(limit / 6), head = Math.floor(most / 2);
    const cut = `slice(datum.label, 0, ${head}) + '…' + slice(datum.label, length(datum.label) - ${most - head - 1})`;
    return {...axis, labelLimit: 1.2 * limit, labelExpr: `length(datum.label) > ${most} ? ${cut} : datum.label`};
  };
  const drawn = new Map();
  async function draw(panel) {
    const text = document.getElementById(panel.id + "-spec").textContent;
    const spec = JSON.parse(dark() ? text.replace(/"#(0072B2|D55E00|009E73|7F6A00)"/g, (_, colour) => `"${BRIGHT[colour]}"`) : text);
    spec.width = "container";
    for (const layer of spec.layer) if (layer.encoding?.y?.field === "method") layer.encoding.y.axis = named(layer.encoding.y.axis, panel);
    spec.autosize = {type: "fit-x", contains: "padding"};
    const previous = drawn.get(panel);
    const result = await window.vegaEmbed(panel, spec, {
      ast: true, renderer: "svg", mode: "vega-lite", config: config(), tooltip: {theme: dark() ? "dark" : "light"},
      actions: {export: {svg: true, png: true}, source: false, compiled: false, editor: false},
    });
    previous?.finalize();
    result.view.signal("pick", chosenIn(panel.closest("figure"))).run();
    drawn.set(panel, result);
    panel.dataset.drawn = "yes";
  }
  const chosenIn = (figure) => [...figure.querySelectorAll(".legend [aria-pressed=true]")].map((key) => key.dataset.name);
  document.querySelectorAll(".legend button").forEach((key) => {
    key.disabled = false;
    key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", String(key.getAttribute("aria-pressed") !== "true"));
      const figure = key.closest("figure"), names = chosenIn(figure);
      figure.querySelectorAll(".panel").forEach((panel) => drawn.get(panel)?.view.signal("pick", names).runAsync());
    });
  });
  const report = (panel) => (error) => { panel.textContent = "This chart could not be drawn: " + error.message; console.error(error); };
  const panels = [...document.querySelectorAll(".panel")];
  if (panels.length && window.vegaEmbed) {
    const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target).catch(report(entry.target)); }
    }), {rootMargin: "600px"});
    panels.forEach((panel) => {
      panel.style.minHeight = panel.dataset.height + "px";  // so that drawing it moves nothing below
      near.observe(panel);
    });
    const ofPaper = () => document.querySelectorAll("details.more, details.reading");  // their tables and figures are printed too
    window.addEventListener("beforeprint", () => {
      ofPaper().forEach((box) => { box.open = true; });
      panels.filter((p) => !drawn.has(p)).forEach((p) => draw(p).catch(report(p)));
    });
  }

  // Theme: the system's until the reader chooses.
  const button = document.getElementById("theme");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", "Switch to the " + (theme === "dark" ? "light" : "dark") + " theme");
    drawn.forEach((_, panel) => draw(panel).catch(report(panel)));
  };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  show(system.matches ? "dark" : "light");
  let chosen = false;
  system.addEventListener("change", () => { if (!chosen) show(system.matches ? "dark" : "light"); });
  button.hidden = false;
  button.addEventListener("click", () => { chosen = true; show(dark() ? "light" : "dark"); });

  // Tables: a button in each header sorts; numbers by their full value, empty ones last.
  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...head.childNodes);
      head.append(sorter);
      head.setAttribute("aria-sort", "none");
      sorter.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const numeric = head.classList.contains("n"), sign = down ? -1 : 1;
        const key = (row) => numeric ? parseFloat(row.cells[index].dataset.v ?? "NaN") : row.cells[index].textContent.trim();
        const keyed = [...body.rows].map((row) => [key(row), row]);
        keyed.sort(([a], [b]) => numeric
          ? (Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : Number.isNaN(b) ? -1 : sign * (a - b))
          : sign * a.localeCompare(b, "en", {numeric: true}));
        body.append(...keyed.map(([, row]) => row));
      });
    });
    const filters = table.closest("section").querySelector(".filters");
    if (!filters) return;
    const find = filters.querySelector(".find"), kind = filters.querySelector(".kind"), count = filters.querySelector(".count");
    const texts = new Map([...body.rows].map((row) => [row, row.textContent.toLowerCase()]));
    const apply = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      texts.forEach((text, row) => {
        const keep = (!kind.value || row.dataset.k === kind.value) && words.every((word) => text.includes(word));
        row.hidden = !keep;
        shown += keep;
      });
      count.textContent = shown + " of " + texts.size + " runs";
    };
    find.addEventListener("input", apply);
    kind.addEventListener("change", apply);
    filters.hidden = false;
    apply();
  });

  // A link to a run opens the list it stands in.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    if (target) target.scrollIntoView({block: "center"});
  };
  window.addEventListener("hashchange", reveal);
  reveal();
})();
