"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const facts = JSON.parse($("#facts").textContent);

  // Tabs: arrows, Home and End move, as the ARIA pattern says. Without this script all panels are shown.
  const tabs = $$("[role=tab]");
  const show = (tab, focus) => {
    for (const one of tabs) {
      const on = one === tab;
      one.setAttribute("aria-selected", String(on));
      one.tabIndex = on ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = !on;
    }
    if (focus) tab.focus();
    if (tab.id === "tab-graph") fit();
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(tabs[(to + tabs.length) % tabs.length], true);
    });
  });

  // Tables: a click or Enter on a column's name sorts by it, largest number first.
  for (const button of $$("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = $("tbody", head.closest("table"));
      const numeric = head.classList.contains("n");
      const was = head.getAttribute("aria-sort");
      const down = was ? was === "ascending" : numeric;
      const key = (row) => {
        const cell = row.cells[head.cellIndex];
        if (!numeric) return cell.textContent.trim();
        return cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
      };
      const compare = (a, b) => {
        if (!numeric) return a.localeCompare(b) * (down ? -1 : 1);
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return a === b ? 0 : (a < b ? -1 : 1) * (down ? -1 : 1);
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort((a, b) => compare(a[0], b[0]));
      body.append(...rows.map((row) => row[1]));
      $$("th[aria-sort]", head.parentElement).forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  }

  // Details of a step, as text alone.
  const details = $("#details");
  const item = (list, name, value) => {
    if (value === null || value === undefined || value === "") return;
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  };
  const describe = (number) => {
    const step = facts.steps[number];
    const head = document.createElement("h3");
    head.textContent = `Step ${step.number}: ${step.kind}`;
    const list = document.createElement("dl");
    const rate = step.macs_per_second;
    item(list, "precision", facts.precisions[step.precision]);
    item(list, "sizes", step.shape);
    item(list, "kernel", step.kernel === null ? "" : `number ${step.kernel}`);
    item(list, "time", `${(step.seconds * 1e6).toFixed(1)} µs, ${(100 * step.share).toFixed(1)} %`);
    item(list, "rate", rate === null ? "" : `${(rate / 1e9).toFixed(0)} GMAC/s, ${(100 * step.of_peak).toFixed(0)} % of peak`);
    item(list, "memory", `${(step.bytes / 1e3).toFixed(1)} kB, ${(step.bytes_per_second / 1e9).toFixed(1)} GB/s`);
    item(list, "module", step.module);
    item(list, "source", step.line);
    item(list, "nodes", step.nodes.join(", "));
    for (const [name, value] of step.params) item(list, name, value);
    details.replaceChildren(head, list);
  };

  // The graph.
  const view = $("#view");
  const svg = view && $("svg", view);
  const boxes = view ? $$(".box", view) : [];
  const [width, height] = svg ? [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height] : [0, 0];
  let scale = 0;
  const zoom = (to, x, y) => {
    to = Math.min(4, Math.max(0.03, to));
    const left = view.scrollLeft + x, top = view.scrollTop + y;
    const by = scale ? to / scale : 1;
    svg.setAttribute("width", width * to);
    svg.setAttribute("height", height * to);
    view.scrollLeft = left * by - x;
    view.scrollTop = top * by - y;
    scale = to;
  };
  const middle = (by) => zoom(scale * by, view.clientWidth / 2, view.clientHeight / 2);
  const fit = () => {
    if (!svg || scale) return;
    const box = boxes.find((one) => one.classList.contains("step")) || boxes[0];
    // As wide as the window, but never too small to read: then the first step is in the middle.
    zoom(Math.min(1, Math.max(view.clientWidth / width, 0.85)), 0, 0);
    if (box) view.scrollLeft = Number(box.dataset.x) * scale - view.clientWidth / 2;
  };
  const reveal = (box) => {
    const x = Number(box.dataset.x) * scale, y = Number(box.dataset.y) * scale;
    view.classList.add("smooth");
    view.scrollTo(x - view.clientWidth / 2, y - view.clientHeight / 2);
    view.classList.remove("smooth");
  };
  const select = (number, jump) => {
    describe(number);
    // Where they stand below the graph, as on a phone, they may be out of sight.
    if (!jump && details.getBoundingClientRect().top > innerHeight - 90) details.scrollIntoView({ block: "end" });
    for (const one of boxes) one.classList.toggle("on", one.dataset.step === String(number));
    for (const edge of $$(".edge", svg || document)) {
      edge.classList.toggle("on", edge.dataset.from === String(number) || edge.dataset.to === String(number));
    }
    const box = boxes.find((one) => one.dataset.step === String(number));
    if (box) focusable(box);
    if (box && jump) {
      reveal(box);
      box.focus({ preventScroll: true });
    }
  };
  const focusable = (box) => boxes.forEach((one) => { one.tabIndex = one === box ? 0 : -1; });
  let moved = false;
  boxes.forEach((box, i) => {
    if (box.dataset.step !== undefined) box.addEventListener("click", () => moved || select(box.dataset.step));
    box.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (by !== undefined) {
        const next = boxes[Math.min(boxes.length - 1, Math.max(0, i + by))];
        event.preventDefault();
        focusable(next);
        reveal(next);
        next.focus({ preventScroll: true });
      } else if ((event.key === "Enter" || event.key === " ") && box.dataset.step !== undefined) {
        event.preventDefault();
        select(box.dataset.step);
      }
    });
  });
  if (view) {
    const actions = { in: () => middle(1.3), out: () => middle(1 / 1.3), all: () => {
      zoom(Math.min(view.clientWidth / width, view.clientHeight / height), 0, 0);
    }, real: () => middle(1 / scale) };
    for (const button of $$("[data-zoom]")) button.addEventListener("click", actions[button.dataset.zoom]);
    view.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "+" || event.key === "=") middle(1.3);
      if (event.key === "-") middle(1 / 1.3);
      if (event.key === "0") actions.all();
    });
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const place = view.getBoundingClientRect();
      zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - place.left, event.clientY - place.top);
    }, { passive: false });
    // A mouse drags; fingers scroll by themselves, two of them zoom.
    const fingers = new Map();
    let from = null;
    view.addEventListener("pointerdown", (event) => {
      moved = false;
      if (event.pointerType === "touch") fingers.set(event.pointerId, event);
      else if (event.button === 0) from = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop };
    });
    addEventListener("pointermove", (event) => {
      if (from) {
        const x = event.clientX - from.x, y = event.clientY - from.y;
        if (Math.abs(x) + Math.abs(y) > 4) { moved = true; view.classList.add("drag"); }
        if (moved) { view.scrollLeft = from.left - x; view.scrollTop = from.top - y; }
      }
    });
    const end = (event) => { from = null; fingers.delete(event.pointerId); view.classList.remove("drag"); };
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
    const apart = (touches) => Math.hypot(touches[0].clientX - touches[1].clientX, touches[0].clientY - touches[1].clientY);
    let pinch = 0;
    view.addEventListener("touchstart", (event) => { pinch = event.touches.length === 2 ? apart(event.touches) : 0; }, { passive: true });
    view.addEventListener("touchmove", (event) => {
      if (event.touches.length !== 2 || !pinch) return;
      event.preventDefault();
      const place = view.getBoundingClientRect(), now = apart(event.touches);
      zoom(scale * now / pinch, (event.touches[0].clientX + event.touches[1].clientX) / 2 - place.left,
        (event.touches[0].clientY + event.touches[1].clientY) / 2 - place.top);
      pinch = now;
    }, { passive: false });
    for (const button of $$("[data-colour]")) {
      button.addEventListener("click", () => {
        const time = button.dataset.colour === "time";
        svg.classList.toggle("by-time", time);
        $$("[data-colour]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
        $("#legend-precision").hidden = time;
        $("#legend-time").hidden = !time;
      });
    }
  }

  // Whatever names a step leads to it in the graph.
  for (const one of $$(".pick, .link[data-step]")) {
    one.addEventListener("click", () => {
      show($("#tab-graph"));
      select(one.dataset.step, true);
    });
  }
  $("[role=tablist]").hidden = false;
  show(tabs.find((tab) => location.hash === `#${tab.getAttribute("aria-controls")}`) || tabs[0]);
})();
