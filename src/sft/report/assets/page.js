/* The parts of the page that move: theme, charts, answers side by side, renewing. Text from files only ever becomes
   text nodes. State lives in the session, so that a renewed page stands where it stood. */
"use strict";
(function () {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const byId = (id) => document.getElementById(id);
  const STATE = "sft-report:" + location.pathname;
  const state = readState();

  function readState() {
    try {
      return JSON.parse(sessionStorage.getItem(STATE)) || {};
    } catch (error) {
      return {};
    }
  }

  function keepState() {
    try {
      sessionStorage.setItem(STATE, JSON.stringify(state));
    } catch (error) {
      /* a page inside another one may keep nothing */
    }
  }

  function make(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === true) element.setAttribute(key, "");
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  /* ---- theme ---- */

  const THEMES = ["system", "light", "dark"];
  let theme = "system";
  try {
    theme = localStorage.getItem("sft-report-theme") || "system";
  } catch (error) {
    /* the system's, then */
  }

  function setTheme(name) {
    theme = THEMES.includes(name) ? name : "system";
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    byId("theme").replaceChildren(make("span", { class: "wide" }, "Theme: " + theme), make("span", { class: "tight", "aria-hidden": "true" }, "◐"));
    try {
      localStorage.setItem("sft-report-theme", theme);
    } catch (error) {
      /* it holds for this page */
    }
  }

  byId("theme").hidden = false;
  byId("theme").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    drawAll();
  });
  setTheme(theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

  /* ---- numbers ---- */

  function spoken(value) {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
    return Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 6 });
  }

  /* ---- charts ---- */

  const charts = new Map(page.charts.map((chart) => [chart.id, chart]));
  const drawn = [];
  const KINDS = [...new Set(page.marks.map((mark) => mark.kind))];
  state.hidden = state.hidden || [];
  state.log = state.log || {};
  state.zoom = state.zoom || null;

  const allSteps = (() => {
    const ends = page.charts
      .filter((chart) => chart.group !== "scores")
      .flatMap((chart) => chart.curves.flatMap((curve) => [curve.x[0], curve.x[curve.x.length - 1]]));
    if (!ends.length) return [0, 1];
    const low = Math.min(...ends), high = Math.max(...ends);
    return low === high ? [low - 1, high + 1] : [low, high];
  })();

  function eventColour(kind) {
    return colour(["checkpoint", "resume", "spike"].includes(kind) ? "event-" + kind : "event-bad");
  }

  function drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    for (const mark of page.marks) {
      if (state.hidden.includes(mark.kind)) continue;
      const left = plot.valToPos(mark.step, "x", true);
      if (left < bbox.left - 1 || left > bbox.left + bbox.width + 1) continue;
      ctx.strokeStyle = ctx.fillStyle = eventColour(mark.kind);
      const unit = devicePixelRatio;
      if (mark.kind === "checkpoint") {
        ctx.beginPath();
        ctx.moveTo(left - 4 * unit, bbox.top + bbox.height);
        ctx.lineTo(left + 4 * unit, bbox.top + bbox.height);
        ctx.lineTo(left, bbox.top + bbox.height - 7 * unit);
        ctx.fill();
      } else {
        ctx.globalAlpha = 0.4;
        ctx.lineWidth = unit;
        ctx.setLineDash(mark.kind === "resume" ? [6 * unit, 4 * unit] : []);
        ctx.beginPath();
        ctx.moveTo(left, bbox.top);
        ctx.lineTo(left, bbox.top + bbox.height);
        ctx.stroke();
        ctx.globalAlpha = 1;
        ctx.beginPath();
        ctx.moveTo(left - 4 * unit, bbox.top);
        ctx.lineTo(left + 4 * unit, bbox.top);
        ctx.lineTo(left, bbox.top + 6 * unit);
        ctx.fill();
      }
    }
    ctx.restore();
  }

  function curveName(chart, curve) {
    const run = page.runs.length > 1 ? page.runs[curve.run] : "";
    const what = curve.name || { smooth: "mean", faint: "as logged" }[curve.style];
    return [run, what].filter(Boolean).join(", ") || "value";
  }

  function curveColour(chart, curve, number) {
    const byCurve = chart.named && page.runs.length === 1;
    return colour("run-" + ((byCurve ? number : curve.run) % 8));
  }

  function seriesOf(chart, curve, number) {
    const stroke = curveColour(chart, curve, number);
    const few = curve.x.length <= 15;
    return {
      label: curveName(chart, curve),
      stroke: curve.style === "faint" ? stroke + (curve.of > 1000 ? "33" : "66") : stroke,
      width: curve.style === "faint" ? 1 : 2,
      spanGaps: joins(curve),
      points: { show: curve.style === "plain" && few, size: 6, fill: stroke },
    };
  }

  /* Curves of several runs share one axis; what is missing there is no gap, a value that was no number is one. */
  function joins(curve) {
    return curve.y.every((value) => value !== null);
  }

  function rangeOf(chart) {
    return (plot, low, high) => {
      if (low === null || low === undefined) return [0, 1];
      if (state.log[chart.id]) {
        const floor = Math.pow(10, Math.floor(Math.log10(low))), top = Math.pow(10, Math.ceil(Math.log10(high)));
        return floor === top ? [floor / 10, top * 10] : [floor, top];
      }
      if (chart.zero && low >= 0) return [0, (high || 1) * 1.08];
      const room = (high - low || Math.abs(high) || 1) * 0.06;
      return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
    };
  }

  function dataOf(chart) {
    const log = state.log[chart.id];
    const tables = chart.curves.map((curve) => [curve.x, log ? curve.y.map((y) => (y > 0 ? y : null)) : curve.y]);
    return uPlot.join(tables.map(unrepeated));
  }

  /* uPlot.join wants each step once: of a step that was logged twice the later stays. */
  function unrepeated([xs, ys]) {
    const last = new Map();
    xs.forEach((x, at) => last.set(x, ys[at]));
    const steps = [...last.keys()].sort((a, b) => a - b);
    return [steps, steps.map((step) => last.get(step))];
  }

  /* Ticks stand at 1, 2 and 5 and their tens; those of steps at whole ones. */
  const TENS = Array.from({ length: 28 }, (none, at) => at - 12);
  const TICKS = TENS.flatMap((ten) => [1, 2, 5].map((times) => Number(times + "e" + ten)));
  const WHOLE = TICKS.filter((tick) => tick >= 1);

  /* 0.0008 below 0.001, and not 8e-4: one way of writing for the ticks of an axis. */
  function tickText(tick, every) {
    if (tick === null) return "";
    if (every < 1e-6 || Math.abs(tick) >= 1e7) return spoken(tick);
    return tick.toLocaleString("en", { maximumFractionDigits: Math.max(0, -Math.floor(Math.log10(every) + 1e-9)) });
  }

  function options(chart, width) {
    const ink = colour("axis"), grid = colour("grid");
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
    const isCourse = chart.group !== "scores";
    return {
      width,
      height: 224,
      legend: { show: false },
      cursor: { drag: { x: true, y: false, uni: 10 }, points: { size: 7 }, sync: isCourse ? { key: "course", setSeries: false } : undefined },
      scales: {
        x: { time: false, range: (plot, low, high) => roomy(low, high) },
        y: { distr: state.log[chart.id] ? 3 : 1, range: rangeOf(chart) },
      },
      axes: [
        { ...axis, size: 30, incrs: WHOLE, values: (plot, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? shortStep(tick) : "")) },
        { ...axis, incrs: TICKS, size: (plot, texts) => 14 + 7 * Math.max(6, ...(texts || []).map((text) => (text || "").length)), values: (plot, ticks, axis, space, every) => ticks.map((tick) => tickText(tick, state.log[chart.id] ? 0 : every)) },
      ],
      series: [{ label: "step" }, ...chart.curves.map((curve, number) => seriesOf(chart, curve, number))],
      hooks: {
        drawAxes: isCourse ? [drawMarks] : [],
        setCursor: [(plot) => readOut(chart, plot)],
        setSelect: [
          (plot) => {
            if (plot.select.width < 4) return;
            const low = plot.posToVal(plot.select.left, "x"), high = plot.posToVal(plot.select.left + plot.select.width, "x");
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            zoom(chart, [low, high]);
          },
        ],
      },
    };
  }

  function roomy(low, high) {
    if (low === null || low === high) return low === null ? [0, 1] : [low - 1, high + 1];
    const room = (high - low) / 80;
    return [low - room, high + room];
  }

  function shortStep(step) {
    if (Math.abs(step) >= 1e6) return spoken(step / 1e6) + "M";
    return Math.abs(step) >= 1e4 ? spoken(step / 1e3) + "k" : spoken(step);
  }

  function readOut(chart, plot) {
    const place = plot.root.closest(".chart").querySelector(".readout");
    const at = plot.cursor.idx;
    place.replaceChildren();
    if (at === null || at === undefined || plot.cursor.left < 0) return;
    place.append(make("span", {}, "step"), make("b", {}, spoken(plot.data[0][at])));
    chart.curves.forEach((curve, number) => {
      const value = nearest(plot.data[number + 1], at);
      if (value === null) return;
      place.append(make("span", {}, curveName(chart, curve)), make("b", {}, spoken(value)));
    });
  }

  /* Curves are drawn from points of their own: where one has none at a step, the value beside it is read. */
  function nearest(values, at) {
    for (let away = 0; away < 8; away++) {
      for (const place of [at - away, at + away]) {
        if (typeof values[place] === "number") return values[place];
      }
    }
    return null;
  }

  function zoom(chart, range) {
    if (chart.group === "scores") state.scoreZoom = range;
    else state.zoom = range && bounded(range);
    keepState();
    for (const one of drawn) if ((one.chart.group === "scores") === (chart.group === "scores")) applyZoom(one);
    showButtons();
  }

  function bounded([low, high]) {
    const [first, last] = allSteps;
    const width = Math.min(Math.max(high - low, 1), last - first);
    const begin = Math.min(Math.max(low, first), last - width);
    return width >= last - first ? null : [begin, begin + width];
  }

  function rangeNow(one) {
    return (one.chart.group === "scores" ? state.scoreZoom : state.zoom) || ownRange(one);
  }

  function applyZoom(one) {
    const range = rangeNow(one);
    one.plot.setScale("x", { min: range[0], max: range[1] });
  }

  function ownRange(one) {
    if (one.chart.group !== "scores") return allSteps;
    const xs = one.plot.data[0];
    return [xs[0], xs[xs.length - 1]];
  }

  function step(chart, key) {
    const one = drawn.find((other) => other.chart === chart) || drawn.find((other) => other.chart.group !== "scores");
    if (!one) return false;
    const [min, max] = rangeNow(one), width = max - min;
    const moves = {
      "+": [min + width / 4, max - width / 4], "=": [min + width / 4, max - width / 4],
      "-": [min - width / 2, max + width / 2], ArrowLeft: [min - width / 4, max - width / 4],
      ArrowRight: [min + width / 4, max + width / 4], 0: null, Home: null,
    };
    if (!(key in moves)) return false;
    zoom(one.chart, moves[key]);
    return true;
  }

  function draw(figure) {
    const chart = charts.get(figure.dataset.chart);
    if (!chart) return;
    const place = figure.querySelector(".plot");
    const before = drawn.findIndex((one) => one.figure === figure);
    if (before >= 0) drawn.splice(before, 1)[0].plot.destroy();
    const width = place.clientWidth;
    if (!width) return; // in a closed part of the page; drawn when that opens
    const plot = new uPlot(options(chart, width), dataOf(chart), place);
    const one = { chart, figure, plot };
    drawn.push(one);
    applyZoom(one);
    if (before < 0) dress(figure, chart);
  }

  function dress(figure, chart) {
    const place = figure.querySelector(".plot");
    if (place.dataset.dressed) return;
    place.dataset.dressed = "yes";
    place.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && step(chart, event.key)) event.preventDefault();
    });
    place.addEventListener("dblclick", () => zoom(chart, null));
    const caption = figure.querySelector("figcaption");
    if (chart.log) {
      const button = make("button", { type: "button", class: "quiet", "aria-pressed": String(!!state.log[chart.id]) }, "log scale");
      button.addEventListener("click", () => {
        state.log[chart.id] = !state.log[chart.id];
        button.setAttribute("aria-pressed", String(state.log[chart.id]));
        keepState();
        draw(figure);
      });
      caption.append(button);
    }
    const keyed = chart.named ? chart.curves : page.runs.length > 1 ? chart.curves.filter((curve) => curve.style !== "smooth") : [];
    if (keyed.length) {
      const keys = make("ul", { class: "keys" });
      keyed.forEach((curve, number) => {
        const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
        const item = make("li", {}, swatch, chart.named ? curveName(chart, curve) : page.runs[curve.run]);
        swatch.className += " run-" + ((chart.named && page.runs.length === 1 ? number : curve.run) % 8);
        keys.append(item);
      });
      figure.append(keys);
    }
    figure.append(values(chart));
  }

  const LISTED = 100;

  function values(chart) {
    const details = make("details", { id: "values-" + page.charts.indexOf(chart) }, make("summary", {}, "Values"));
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const data = dataOf(chart), every = Math.max(1, Math.ceil(data[0].length / LISTED));
      const head = make("tr", {}, make("th", { scope: "col", class: "figure" }, "Step"));
      chart.curves.forEach((curve) => head.append(make("th", { scope: "col", class: "figure" }, curveName(chart, curve))));
      const body = make("tbody");
      data[0].forEach((at, row) => {
        if (row % every && row !== data[0].length - 1) return;
        const line = make("tr", {}, make("th", { scope: "row", class: "figure" }, spoken(at)));
        for (const column of data.slice(1)) line.append(make("td", { class: "figure" }, spoken(column[row])));
        body.append(line);
      });
      const region = make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": chart.title + ": values" });
      region.append(make("table", { class: "narrow" }, make("caption", {}, every > 1 ? "Every " + every + "th of the drawn points." : "All drawn points."), make("thead", {}, head), body));
      details.append(region);
    });
    return details;
  }

  function drawAll() {
    for (const figure of document.querySelectorAll(".chart")) draw(figure);
  }

  function showButtons() {
    const tools = byId("chart-tools");
    if (!tools) return;
    tools.querySelector("[data-key='0']").disabled = !state.zoom;
  }

  function makeButtons() {
    const tools = byId("chart-tools");
    if (!tools) return;
    tools.hidden = false;
    const [place, marks] = tools.querySelectorAll(".buttons");
    const moves = [["+", "Zoom in"], ["-", "Zoom out"], ["ArrowLeft", "Earlier"], ["ArrowRight", "Later"], ["0", "All steps"]];
    for (const [key, name] of moves) {
      const button = make("button", { type: "button", class: "quiet", "data-key": key }, name);
      button.addEventListener("click", () => step(null, key));
      place.append(button);
    }
    if (KINDS.length) marks.append("Marks:");
    for (const kind of KINDS) {
      const count = page.counts[kind];
      const dot = make("span", { class: "event", "data-kind": kind, "aria-hidden": "true" });
      const button = make("button", { type: "button", class: "quiet", "aria-pressed": String(!state.hidden.includes(kind)) }, dot, kind + " " + spoken(count));
      button.addEventListener("click", () => {
        state.hidden = state.hidden.includes(kind) ? state.hidden.filter((one) => one !== kind) : [...state.hidden, kind];
        button.setAttribute("aria-pressed", String(!state.hidden.includes(kind)));
        keepState();
        drawn.forEach((one) => one.plot.redraw(false));
      });
      marks.append(button);
    }
  }

  /* ---- answers side by side ---- */

  const FIRST = 10, MOST_WORDS = 800;
  const FILTERS = [["all", "all"], ["better", "better"], ["worse", "worse"], ["changed", "changed"], ["same", "unchanged"]];
  state.answers = Object.assign({ run: 0, task: 0, filter: "all", search: "", order: "data", shown: FIRST }, state.answers);

  function scoreChange(row, models) {
    const scores = row[4];
    if (models.length < 2 || models[0].title !== "untrained") return null;
    const first = scores[0], best = scores[1];
    return typeof first === "number" && typeof best === "number" ? best - first : null;
  }

  function passes(row, models) {
    const { filter, search } = state.answers;
    const change = scoreChange(row, models), texts = row[3];
    const differs = texts.some((text) => text !== texts[0]);
    if (filter === "better" && !(change > 0)) return false;
    if (filter === "worse" && !(change < 0)) return false;
    if (filter === "changed" && !differs) return false;
    if (filter === "same" && differs) return false;
    if (!search) return true;
    const wanted = search.toLowerCase();
    return [row[0], row[1], row[2], ...texts].some((text) => text !== null && text.toLowerCase().includes(wanted));
  }

  /* The words of a text that are not, in that order, in another: the longest common subsequence is left out. */
  function marked(text, before, name) {
    const words = text.match(/\s+|[^\s]+/g) || [], old = (before || "").match(/[^\s]+/g) || [];
    const own = words.filter((word) => word.trim());
    if (before === null || own.length > MOST_WORDS || old.length > MOST_WORDS) return [text];
    const width = old.length + 1, table = new Uint16Array((own.length + 1) * width);
    for (let i = own.length - 1; i >= 0; i--)
      for (let j = old.length - 1; j >= 0; j--)
        table[i * width + j] = own[i] === old[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    const kept = [];
    for (let i = 0, j = 0; i < own.length && j < old.length; )
      if (own[i] === old[j]) kept.push(i++), j++;
      else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
      else j++;
    const same = new Set(kept), pieces = [];
    let number = -1, run = "", isNew = false;
    const flush = () => {
      const words = isNew ? run.trimEnd() : run;
      if (words) pieces.push(isNew ? make(name, {}, words) : words);
      if (words.length < run.length) pieces.push(run.slice(words.length));
      run = "";
    };
    for (const word of words) {
      if (word.trim()) {
        const fresh = !same.has(++number);
        if (fresh !== isNew) flush();
        isNew = fresh;
      }
      run += word;
    }
    flush();
    return pieces;
  }

  function card(row, task) {
    const [id, question, reference, texts, scores] = row;
    const item = make("li");
    const asked = make("p", { class: "asked", dir: "auto" }, question === null ? "The question was not recorded." : question, " ", make("span", { class: "sub" }, id));
    item.append(asked);
    if (reference !== null) item.append(make("p", { class: "reference", dir: "auto" }, "Reference: " + reference));
    const side = make("div", { class: "side" });
    task.models.forEach((model, number) => {
      const score = scores[number];
      const part = make("div");
      const head = make("h3", {}, model.title + ", step " + spoken(model.step));
      if (typeof score === "number") {
        const less = number && typeof scores[0] === "number" ? Math.sign(score - scores[0]) : 0;
        const word = !number || !model.step ? "" : less > 0 ? "better " : less < 0 ? "worse " : "same ";
        head.append(make("span", { class: "score " + (less > 0 ? "up" : less < 0 ? "down" : ""), title: String(score) }, word + score.toFixed(4)));
      }
      const text = texts[number];
      const body = make("p", { dir: "auto" });
      if (text === null) body.append(make("span", { class: "absent" }, "not asked"));
      else if (!text.trim()) body.append(make("span", { class: "absent" }, text ? "nothing but white space" : "an empty answer"));
      else if (task.models[0].step !== 0 || task.models.length < 2) body.append(text);
      else body.append(...(number ? marked(text, texts[0], "ins") : marked(text, texts[1], "del")));
      part.append(head, body);
      side.append(part);
    });
    item.append(side);
    const button = make("button", { type: "button", class: "quiet whole", "aria-expanded": "false", hidden: true }, "Show all of it");
    button.addEventListener("click", () => {
      const open = !item.classList.toggle("clamped");
      if (open) item.dataset.whole = "yes";
      else delete item.dataset.whole;
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "Show less" : "Show all of it";
    });
    item.append(button);
    return item;
  }

  /* Long texts are cut by their height, which only the browser knows: a button stands where something is hidden. */
  function fitCards() {
    const cards = [...document.querySelectorAll("#answers > li")].filter((item) => item.dataset.whole === undefined);
    cards.forEach((item) => item.classList.add("clamped"));
    const cut = cards.map((item) => [...item.querySelectorAll(".asked, .reference, .side p")].some((text) => text.scrollHeight > text.clientHeight + 1));
    cards.forEach((item, number) => {
      item.classList.toggle("clamped", cut[number]);
      item.querySelector(".whole").hidden = !cut[number];
    });
  }

  function currentTask() {
    const tasks = page.answers[state.answers.run];
    return tasks && (tasks[state.answers.task] || tasks[0]);
  }

  function showAnswers() {
    const task = currentTask(), list = byId("answers");
    if (!task || !list) return;
    keepState();
    let rows = task.rows.filter((row) => passes(row, task.models));
    const { order, shown } = state.answers;
    if (order !== "data") {
      const sign = order === "gain" ? -1 : 1;
      const value = (row) => scoreChange(row, task.models) || 0;
      rows = rows.slice().sort((a, b) => sign * (value(a) - value(b)));
    }
    list.replaceChildren(...rows.slice(0, shown).map((row) => card(row, task)));
    fitCards();
    const counts = task.counts;
    const tally = counts ? " By their scores, " + spoken(counts.better) + " of " + spoken(task.asked) + " answers of the best model are better than the untrained model's, " + spoken(counts.worse) + (counts.worse === 1 ? " is" : " are") + " worse, " + spoken(counts.same) + (counts.same === 1 ? " is" : " are") + " the same." : task.metric === null ? " Nothing scores these answers." : " Scores of single answers: not recorded.";
    byId("answers-count").textContent = spoken(Math.min(shown, rows.length)) + " of " + spoken(rows.length) + " shown" + (rows.length < task.asked ? " (" + spoken(task.asked) + " were asked)." : ".") + tally;
    byId("answers-more").hidden = rows.length <= shown;
  }

  function fillTasks() {
    const tasks = page.answers[state.answers.run] || [];
    if (state.answers.task >= tasks.length) state.answers.task = 0;
    const select = byId("answers-task");
    select.replaceChildren(...tasks.map((task, number) => make("option", { value: number }, task.task + " (" + spoken(task.asked) + ")")));
    select.value = String(state.answers.task);
    fillFilters();
  }

  function fillFilters() {
    const task = currentTask(), place = byId("answers-filter");
    const scored = !!(task && task.rows.some((row) => scoreChange(row, task.models) !== null));
    if (!scored && ["better", "worse"].includes(state.answers.filter)) state.answers.filter = "all";
    place.querySelectorAll("button").forEach((button) => button.remove());
    const isRanked = !task || task.metric !== null;
    byId("answers-order").closest("label").hidden = !isRanked;
    if (!isRanked) state.answers.order = byId("answers-order").value = "data";
    for (const [name, label] of FILTERS) {
      if (!isRanked && (name === "better" || name === "worse")) continue;
      const button = make("button", { type: "button", class: "quiet", "data-filter": name, "aria-pressed": String(state.answers.filter === name), disabled: !scored && (name === "better" || name === "worse") }, label);
      button.addEventListener("click", () => {
        state.answers.filter = name;
        state.answers.shown = FIRST;
        place.querySelectorAll("button").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
        showAnswers();
      });
      place.append(button);
    }
  }

  function startAnswers() {
    const form = byId("filters");
    if (!form) return;
    form.hidden = false;
    byId("answers-marks").hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    if (!page.answers[state.answers.run]) state.answers.run = page.answers.findIndex((tasks) => tasks);
    const run = byId("answers-run");
    if (run) {
      run.value = String(state.answers.run);
      run.addEventListener("change", () => {
        state.answers.run = Number(run.value);
        state.answers.task = 0;
        fillTasks();
        showAnswers();
      });
    }
    fillTasks();
    byId("answers-task").addEventListener("change", (event) => {
      state.answers.task = Number(event.target.value);
      state.answers.shown = FIRST;
      fillFilters();
      showAnswers();
    });
    const search = byId("answers-search");
    search.value = state.answers.search;
    search.addEventListener("input", () => {
      state.answers.search = search.value;
      state.answers.shown = FIRST;
      showAnswers();
    });
    const order = byId("answers-order");
    order.value = state.answers.order;
    order.addEventListener("change", () => {
      state.answers.order = order.value;
      showAnswers();
    });
    byId("answers-more").addEventListener("click", () => {
      state.answers.shown += 20;
      showAnswers();
    });
    showAnswers();
  }

  /* ---- options, commands, parts that open ---- */

  function startOptions() {
    const table = byId("options"), all = byId("options-all");
    if (!table || !all) return;
    byId("options-all-label").hidden = false;
    all.checked = !!state.options;
    table.classList.toggle("brief", !all.checked);
    all.addEventListener("change", () => {
      state.options = all.checked;
      table.classList.toggle("brief", !all.checked);
      keepState();
    });
  }

  function startCopying() {
    if (!navigator.clipboard) return;
    for (const button of document.querySelectorAll(".copy")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const text = button.parentElement.querySelector("code").textContent;
        navigator.clipboard.writeText(text).then(
          () => (button.textContent = "Copied"),
          () => (button.textContent = "Select the line, then copy it"),
        );
      });
    }
  }

  function startDetails() {
    state.open = state.open || {};
    for (const details of document.querySelectorAll("details[id]")) {
      if (details.id in state.open) details.open = state.open[details.id];
      details.addEventListener("toggle", () => {
        state.open[details.id] = details.open;
        keepState();
        if (details.open) details.querySelectorAll(".chart").forEach(draw);
      });
    }
  }

  function markPlace() {
    const links = [...document.querySelectorAll(".contents a")];
    const sections = links.map((link) => byId(link.hash.slice(1)));
    const here = sections.filter((section) => section.getBoundingClientRect().top < innerHeight / 3).length - 1;
    links.forEach((link, number) => (number === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  }

  /* ---- renewing ---- */

  const QUIET = 4000, SILENT = 30 * 60;
  let touched = 0;

  function renew() {
    const line = byId("renewing");
    const age = Date.now() / 1000 - page.written;
    if (age > SILENT) {
      line.textContent = "The run is not finished, and has not written this page for " + spoken(Math.round(age / 60)) + " minutes: it may have been stopped. Reload the page to look again.";
      return;
    }
    const typing = document.activeElement && document.activeElement.matches("input, select");
    if (document.hidden || typing || Date.now() - touched < QUIET || String(getSelection())) {
      setTimeout(renew, 2000);
      return;
    }
    keepPlace();
    location.reload();
  }

  function keepPlace() {
    state.scroll = scrollY;
    state.focus = document.activeElement && document.activeElement.id;
    keepState();
  }

  function startRenewing() {
    if (!page.renews) return;
    if (typeof state.scroll === "number") {
      history.scrollRestoration = "manual";
      scrollTo({ top: state.scroll, behavior: "instant" });
      const focused = state.focus && byId(state.focus);
      if (focused) focused.focus({ preventScroll: true });
    }
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
      addEventListener(kind, () => (touched = Date.now()), { passive: true });
    }
    addEventListener("pagehide", keepPlace);
    setTimeout(renew, page.renews * 1000);
  }

  makeButtons();
  startDetails();
  drawAll();
  showButtons();
  startAnswers();
  startOptions();
  startCopying();
  markPlace();
  addEventListener("scroll", markPlace, { passive: true });
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => {
      drawAll();
      fitCards();
    }, 150);
  });
  startRenewing();
})();
