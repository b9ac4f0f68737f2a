"use strict";
// Charts of report.html: SVG from the numbers in #data, no library.
(() => {
  const DASHES = ["", "8 3", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2", "1 5"];
  const MARKS = [
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "M-3-3H3V3H-3Z", "M0-4L4 3H-4Z", "M0-4.2L4.2 0L0 4.2L-4.2 0Z",
    "M0 4L4-3H-4Z", "M-1-4H1V-1H4V1H1V4H-1V1H-4V-1H-1Z", "M-4-3L-3-4L4 3L3 4Z M4-3L3-4L-4 3L-3 4Z",
    "M-4-2H4V2H-4Z",
  ];
  const MANY = 12; // curves from which on bands and seeds are left out
  const options = { axis: "steps", seeds: false, bands: true };
  const sections = JSON.parse(document.getElementById("data").textContent);
  const roots = [...document.querySelectorAll("section.panel")];

  const style = (i) => {
    const round = Math.floor(i / 8), place = i % 8;
    return { color: `var(--c${place})`, dash: DASHES[(place + round) % 7], mark: MARKS[(place + 2 * round) % 8] };
  };
  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const minus = (text) => text.replace("-", "−");
  // Of several quantities the first has filled marks, the second hollow ones, the third none.
  const swatch = (i, j = 0) => {
    const s = style(i), kind = j ? " other" : "";
    return `<svg class="swatch" viewBox="0 0 38 12" style="color:${s.color}" aria-hidden="true">` +
      `<path class="mean${kind}" stroke-dasharray="${s.dash}" d="M0 6H38"/>` +
      (j > 1 ? "" : `<path class="mark${kind}" transform="translate(19 6)" d="${s.mark}"/>`) + "</svg>";
  };

  function short(value) { // ticks
    const size = Math.abs(value);
    if (size >= 1e6) return minus(`${+(value / 1e6).toPrecision(4)}M`);
    if (size >= 1e3) return minus(`${+(value / 1e3).toPrecision(4)}k`);
    return minus(size && size < 1e-3 ? value.toExponential(0) : `${+value.toPrecision(4)}`);
  }
  const exact = (value) => minus(Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3)
    ? value.toExponential(3) : `${+value.toPrecision(5)}`);
  function ticks(low, high, count) {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
    const first = Math.ceil(low / step - 1e-9), found = [];
    for (let n = 0; n <= count + 2; n++) { // beyond 2⁵³ the next number may be the same
      const value = (first + n) * step;
      if (value <= high + step * 1e-9 && value !== found.at(-1)) found.push(value);
    }
    return found;
  }

  // A chart's lines that are shown: curve, quantity, phase, x, numbers.
  function visible(section, chart, state) {
    const axis = chart.lines.some((l) => l.curves.some((c) => c[options.axis])) ? options.axis : "steps";
    const all = [];
    chart.lines.forEach((line, j) => line.curves.forEach((phases, i) => {
      if (state.hidden.has(i)) return;
      for (const phase of ["offline", axis]) {
        const numbers = phases[phase];
        if (numbers) all.push({ i, j, online: phase === axis, x: section.grids[i][numbers.g], ...numbers });
      }
    }));
    const offline = all.some((l) => !l.online && l.x.length > 1), online = all.some((l) => l.online);
    return { axis, lines: all.filter((l) => l.online || offline || !online) };
  }

  function range(lines, bands, seeds) {
    let low = Infinity, high = -Infinity;
    const take = (values) => { for (const v of values) if (v !== null) { low = Math.min(low, v); high = Math.max(high, v); } };
    for (const l of lines) {
      take(l.m);
      if (bands && l.lo) { take(l.lo); take(l.hi); }
      if (l.s) l.s.forEach((s) => take(seeds ? s : s.slice(lastOf(l.m) + 1)));
    }
    if (low > high) return [0, 1];
    if (low > 0 && low < 0.4 * high) low = 0;
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    return [low === 0 ? 0 : low - room, high + room];
  }
  const lastOf = (values) => values.reduce((last, v, k) => (v === null ? last : k), -1);

  function draw(figure, section, chart, state, large) {
    const { axis, lines } = visible(section, chart, state);
    const count = new Set(lines.map((l) => l.i)).size;
    const bands = options.bands && count <= MANY, seeds = options.seeds;
    const width = Math.max(240, figure.clientWidth), height = large ? Math.max(230, Math.min(400, width * 0.42)) : 200;
    const box = { left: 46, right: width - (section.curves.length > 1 ? 26 : 12), top: 16, bottom: height - 30 };
    const has = { off: lines.some((l) => !l.online), on: lines.some((l) => l.online) };
    const split = !has.off ? box.left : !has.on ? box.right : box.left + 0.3 * (box.right - box.left);
    const most = (online) => Math.max(1e-9, ...lines.filter((l) => l.online === online).map((l) => l.x[l.x.length - 1]));
    const ends = { true: most(true), false: most(false) };
    const X = (x, online) => online ? split + (x / ends.true) * (box.right - split) : box.left + (x / ends.false) * (split - box.left);
    let [low, high] = range(lines, bands, seeds);
    const known = lines.flatMap((l) => l.m).filter((v) => v !== null);
    const log = /loss/i.test(chart.title) && known.length > 0 && Math.min(...known) > 0 && Math.max(...known) > 300 * Math.min(...known);
    const f = log ? (v) => Math.log10(Math.max(v, 1e-12)) : (v) => v;
    if (log) { low = Math.log10(Math.min(...known)) - 0.1; high = Math.log10(Math.max(...known)) + 0.1; }
    const Y = (v) => box.bottom - ((f(v) - low) / (high - low)) * (box.bottom - box.top);
    const path = (x, y, online) => {
      let d = "", pen = false;
      y.forEach((v, k) => {
        if (v === null) { pen = false; return; }
        d += `${pen ? "L" : "M"}${X(x[k], online).toFixed(1)} ${Y(v).toFixed(1)}`;
        pen = true;
      });
      return d;
    };

    let svg = "";
    const levels = log ? ticks(Math.ceil(low), Math.floor(high), 4).filter(Number.isInteger).map((e) => 10 ** e) : ticks(low, high, large ? 6 : 4);
    for (const v of levels) {
      svg += `<path class="gridline" d="M${box.left} ${Y(v).toFixed(1)}H${box.right}"/>` +
        `<text x="${box.left - 6}" y="${(Y(v) + 4).toFixed(1)}" text-anchor="end">${short(v)}</text>`;
    }
    const unit = { steps: "environment steps", episodes: "training episodes" }[axis];
    for (const [online, from, to, name] of [[false, box.left, split, "updates"], [true, split, box.right, unit]]) {
      if (to - from < 20) continue;
      for (const v of ticks(0, ends[online], Math.max(1, Math.floor((to - from) / 64)))) {
        if (online && v === 0 && has.off) continue;
        const x = X(v, online), anchor = x > box.right - 14 ? "end" : x < box.left + 8 ? "start" : "middle";
        svg += `<path class="gridline" d="M${x.toFixed(1)} ${box.top}V${box.bottom}"/>` +
          `<text x="${x.toFixed(1)}" y="${box.bottom + 13}" text-anchor="${anchor}">${short(v)}</text>`;
      }
      svg += `<text x="${(from + to) / 2}" y="${height - 4}" text-anchor="middle">${name}</text>`;
    }
    if (has.on) {
      svg += `<path class="handover" d="M${split.toFixed(1)} ${box.top - 8}V${box.bottom}"/>`;
      if (has.off) svg += `<text x="${split + 4}" y="${box.top - 5}">hand-over</text>`;
    }

    const groups = new Map(), tips = [];
    for (const l of lines) {
      const s = style(l.i), other = l.j ? " other" : "", end = lastOf(l.m);
      let g = "";
      if (bands && l.lo && !l.j) {
        const inside = l.m.map((v, k) => k).filter((k) => l.lo[k] !== null);
        const there = inside.map((k) => `${X(l.x[k], l.online).toFixed(1)} ${Y(l.hi[k]).toFixed(1)}`);
        const back = inside.reverse().map((k) => `${X(l.x[k], l.online).toFixed(1)} ${Y(l.lo[k]).toFixed(1)}`);
        if (there.length > 1) g += `<path class="band" d="M${[...there, ...back].join("L")}Z"/>`;
      }
      for (const one of l.s || []) { // a longer seed goes on where the mean ends
        const shown = seeds ? one : one.map((v, k) => (k < end ? null : v));
        if (lastOf(shown) > end || seeds) g += `<path class="seedline" stroke-dasharray="${s.dash}" d="${path(l.x, shown, l.online)}"/>`;
      }
      g += `<path class="mean${other}" stroke-dasharray="${s.dash}" d="${path(l.x, l.m, l.online)}"/>`;
      const every = Math.max(1, Math.round(l.m.length / (large ? 9 : 5)));
      l.m.forEach((v, k) => {
        if (v === null || l.j > 1 || (k % every !== (l.i * 2 + l.j) % every && l.m.length > 1)) return;
        g += `<path class="mark${other}" transform="translate(${X(l.x[k], l.online).toFixed(1)} ${Y(v).toFixed(1)})" d="${s.mark}"/>`;
      });
      if (end >= 0 && !l.j && (l.online || !has.on)) tips.push({ i: l.i, y: Y(l.m[end]), x: X(l.x[end], l.online) });
      groups.set(l.i, (groups.get(l.i) || "") + g);
    }
    if (section.curves.length > 1) { // a curve's number at its end, where there is room
      tips.sort((a, b) => a.y - b.y);
      let floor = box.top - 12;
      for (const t of tips) {
        const y = Math.max(t.y + 4, floor + 11);
        if (y - t.y > 26) continue;
        floor = y;
        groups.set(t.i, groups.get(t.i) + `<text class="end" x="${t.x + 6}" y="${y.toFixed(1)}" style="fill:${style(t.i).color}">${t.i + 1}</text>`);
      }
    }
    for (const [i, g] of groups) svg += `<g data-c="${i}" style="color:${style(i).color}">${g}</g>`;
    const said = lines.filter((l) => l.online || !has.on).slice(0, 30)
      .map((l) => `${section.curves[l.i].label}${chart.lines.length > 1 ? `, ${chart.lines[l.j].name}` : ""}: ${lastOf(l.m) < 0 ? "–" : exact(l.m[lastOf(l.m)])}`);
    const keys = chart.lines.length < 2 ? "" : chart.lines.map((l, j) =>
      `<small class="key">${swatch(0, j)}${escape(l.name)}</small>`).join("");
    const notes = [chart.note, log ? "log scale" : ""].filter(Boolean).join(", ");
    figure.innerHTML = `<figcaption>${escape(chart.title)}${keys}<small>${escape(notes)}</small></figcaption>` +
      `<svg class="chart" viewBox="0 0 ${width} ${height}" height="${height}" role="img" tabindex="0" ` +
      `aria-label="${escape(`${chart.title}, last values. ${said.join("; ")}`)}">${svg}<g class="over"></g></svg>`;
    hover(figure, { section, chart, state, lines, box, split, ends, X, Y, width, height, axis, has });
  }

  function hover(figure, c) {
    const svg = figure.querySelector("svg.chart"), over = svg.querySelector(".over");
    let tip = null, at = null;
    const clear = () => { over.innerHTML = ""; tip?.remove(); tip = null; focus(c.state, null); };
    function show(px, py) {
      at = px;
      const online = c.has.on && (px >= c.split || !c.has.off);
      const shown = [];
      for (const l of c.lines.filter((l) => l.online === online)) {
        let best = -1, gap = Infinity, first = Infinity, last = -Infinity;
        l.x.forEach((x, k) => {
          if (l.m[k] === null && !(l.s || []).some((s) => s[k] !== null)) return;
          const at = c.X(x, online), d = Math.abs(at - px);
          first = Math.min(first, at);
          last = at;
          if (d < gap) { gap = d; best = k; }
        });
        if (best < 0 || px < first - 40 || px > last + 40) continue; // not beyond a curve's ends
        const values = (l.s || []).map((s) => s[best]).filter((v) => v !== null);
        const v = l.m[best] ?? values.reduce((a, b) => a + b, 0) / values.length;
        shown.push({ l, v, x: l.x[best], k: best, seeds: l.m[best] === null ? values.length : 0, near: Math.abs(c.Y(v) - py) });
      }
      if (!shown.length) return clear();
      const nearest = shown.reduce((a, b) => (b.near < a.near ? b : a));
      const x = c.X(nearest.x, online).toFixed(1);
      over.innerHTML = `<path class="cursor" d="M${x} ${c.box.top}V${c.box.bottom}"/>` + shown.map((s) =>
        `<circle cx="${c.X(s.x, online).toFixed(1)}" cy="${c.Y(s.v).toFixed(1)}" r="4" style="fill:${style(s.l.i).color}"/>`).join("");
      if (c.section.curves.length > 1) focus(c.state, shown.length > 6 ? nearest.l.i : null);
      const rows = [...shown].sort((a, b) => a.near - b.near).slice(0, 10).sort((a, b) => b.v - a.v).map((s) => {
        const name = [c.section.curves.length > 1 ? `${s.l.i + 1} ${c.section.curves[s.l.i].label}` : "",
          c.chart.lines.length > 1 ? c.chart.lines[s.l.j].name : ""].filter(Boolean).join(", ") || c.chart.title;
        const interval = s.l.lo && s.l.lo[s.k] !== null ? ` [${exact(s.l.lo[s.k])}, ${exact(s.l.hi[s.k])}]` : "";
        const some = s.seeds ? ` (${s.seeds} of ${s.l.s.length} seeds)` : "";
        return `<p class="${s === nearest && shown.length > 1 ? "near" : ""}">${swatch(s.l.i, s.l.j)}<span>${escape(name)}</span>${exact(s.v)}${interval}${some}</p>`;
      });
      const unit = !online ? "updates of pre-training" : { steps: "environment steps", episodes: "training episodes" }[c.axis];
      if (!tip) { tip = document.createElement("div"); tip.className = "tip"; figure.append(tip); }
      tip.innerHTML = `<p>${Math.round(nearest.x).toLocaleString("en")} ${unit}</p>${rows.join("")}`;
      const free = figure.clientWidth - tip.offsetWidth;
      const side = px < c.width / 2 ? px + 14 : px - tip.offsetWidth - 14;
      tip.style.left = `${Math.max(0, Math.min(free, side))}px`;
      const above = svg.getBoundingClientRect().top - figure.getBoundingClientRect().top;
      tip.style.top = `${above + Math.max(0, Math.min(py - tip.offsetHeight / 2, c.height - tip.offsetHeight))}px`;
    }
    const place = (event) => {
      const r = svg.getBoundingClientRect();
      show(((event.clientX - r.left) * c.width) / r.width, ((event.clientY - r.top) * c.height) / r.height);
    };
    svg.addEventListener("pointermove", place);
    svg.addEventListener("pointerdown", place);
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -8, ArrowRight: 8 }[event.key];
      if (event.key === "Escape") clear();
      if (!step) return;
      event.preventDefault();
      show(Math.max(c.box.left, Math.min(c.box.right, (at ?? c.split) + step)), c.height / 2);
    });
  }

  function focus(state, i) {
    for (const g of state.root.querySelectorAll("g[data-c]")) g.classList.toggle("dim", i !== null && +g.dataset.c !== i);
  }

  function render(state) {
    state.drawn = true;
    state.section.charts.forEach((chart, k) => {
      const figure = state.figures[k];
      const empty = !visible(state.section, chart, state).lines.length;
      figure.hidden = empty && k > 0;
      if (!figure.hidden) draw(figure, state.section, chart, state, k === 0);
    });
  }

  const states = sections.map((section, index) => {
    const root = roots[index], state = { section, root, hidden: new Set(), drawn: false };
    state.figures = section.charts.map((chart, k) => {
      const figure = document.createElement("figure");
      if (k === 0) figure.className = "large";
      root.querySelector(".charts").append(figure);
      return figure;
    });
    if (section.curves.length > 1) legend(state);
    return state;
  });

  function legend(state) {
    const box = state.root.querySelector(".legend"), buttons = [];
    const update = () => {
      buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(!state.hidden.has(i))));
      render(state);
    };
    const add = (html, click) => {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = html;
      button.addEventListener("click", click);
      box.append(button);
      return button;
    };
    state.section.curves.forEach((curve, i) => {
      const button = add(`${swatch(i)}<b>${i + 1}</b> ${escape(curve.label)}`, () => {
        if (!state.hidden.delete(i)) state.hidden.add(i);
        update();
      });
      button.addEventListener("pointerenter", (e) => e.pointerType === "mouse" && focus(state, i));
      button.addEventListener("pointerleave", () => focus(state, null));
      buttons.push(button);
      const row = state.root.querySelector(`tr[data-curve="${i}"] th`);
      row?.insertAdjacentHTML("afterbegin", `${swatch(i)}${i + 1} `);
    });
    if (buttons.length > 4) {
      add("show all", () => { state.hidden.clear(); update(); });
      add("hide all", () => { buttons.forEach((_, i) => state.hidden.add(i)); update(); });
    }
  }

  function redraw() { states.filter((s) => s.drawn).forEach(render); }

  function controls() {
    const box = document.getElementById("controls");
    const lines = sections.flatMap((s) => s.charts.flatMap((c) => c.lines.flatMap((l) => l.curves)));
    const add = (html, change) => {
      const label = document.createElement("label");
      label.innerHTML = html;
      label.querySelector("input, select").addEventListener("change", (e) => change(e.target));
      box.append(label);
      box.hidden = false;
    };
    const select = '<select aria-label="x axis of fine-tuning"><option value="steps">environment steps</option><option value="episodes">training episodes</option></select>';
    if (lines.some((l) => l.episodes)) add(`fine-tuning over ${select}`, (s) => { options.axis = s.value; redraw(); });
    if (!sections.some((s) => s.curves.some((c) => c.seeds.length > 1))) return;
    const check = (on, text) => `<input type="checkbox"${on ? " checked" : ""}>${text}`;
    options.seeds = sections.every((s) => s.curves.length <= 3);
    add(check(options.seeds, "curves of seeds"), (s) => { options.seeds = s.checked; redraw(); });
    add(check(true, "95 % intervals"), (s) => { options.bands = s.checked; redraw(); });
    add(check(false, "table rows of seeds"), (s) => document.body.classList.toggle("each", s.checked));
  }

  controls();
  // The charts of many tasks are drawn when they come into view.
  if (states.length <= 3) states.forEach(render);
  else {
    const seen = new IntersectionObserver((entries) => {
      for (const e of entries) {
        const state = states.find((s) => s.root === e.target);
        if (e.isIntersecting && !state.drawn) render(state);
      }
    }, { rootMargin: "400px" });
    roots.forEach((root) => seen.observe(root));
  }
  addEventListener("beforeprint", () => states.forEach(render));
  let waiting = 0, width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar
    width = innerWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  });
})();
