"use strict";
// The table of all metrics. Rows are made as they are needed, so thousands of metrics cost no time when the page opens.
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const { names, statuses, metrics, cases, rounds, paired } = JSON.parse(source.textContent);
  const [STATUS, AREA, MODEL, CONFIG, WORKLOAD, METRIC, CODE, SENTENCE, BASE, HEAD, BASE_TEXT, HEAD_TEXT, RATIO, LOW, HIGH,
    P, EFFECT, EXACT, STORED] = Array(19).keys();
  const PAGE = 100, MOST_IN_PRINT = 500;
  const times = (value) => value === null ? "" : "×" + (value >= 100 || value < 0.01 ? value.toPrecision(2) : value.toFixed(3));
  const ratio = (one) => one[RATIO] === null || (one[EXACT] && one[RATIO] === 1) ? "" : times(one[RATIO]);
  const interval = (one) => one[EXACT] || one[LOW] === null ? ""
    : `${times(one[LOW])} … ${one[HIGH] === null ? "∞" : times(one[HIGH])}`;
  const effect = (one) => one[EXACT] || one[RATIO] === null ? ""
    : one[EFFECT] === null || one[EFFECT] >= 10 ? "nothing" : `±${(100 * one[EFFECT]).toFixed(1)}%`;
  const order = (one) => statuses.indexOf(names[one[STATUS]]);
  // Title, text of a cell, what it is sorted by, whether it is a number.
  const columns = [
    ["verdict", (one) => names[one[STATUS]], order, false],
    ["metric", (one) => names[one[METRIC]], null, false],
    ["workload", (one) => names[one[WORKLOAD]], null, false],
    ["server", (one) => names[one[CONFIG]], null, false],
    ["model", (one) => names[one[MODEL]], null, false],
    ["base", (one) => one[BASE_TEXT], (one) => one[BASE], true],
    ["head", (one) => one[HEAD_TEXT], (one) => one[HEAD], true],
    ["ratio", ratio, (one) => one[RATIO], true],
    ["interval", interval, (one) => one[LOW], true],
    ["could see", effect, (one) => one[EFFECT], true],
  ];
  const several = (place) => new Set(cases.map((one) => one[place])).size > 1;
  const alike = { server: CONFIG, model: MODEL };
  // A column that says nothing, or the same of all, is left out.
  const shown = columns.filter(([title, text]) => title in alike ? several(alike[title]) : cases.some((one) => !["", "–"].includes(text(one))));
  const table = document.getElementById("cases"), body = table.tBodies[0];
  const more = document.getElementById("more"), told = document.getElementById("shown");
  const find = document.getElementById("find"), area = document.getElementById("area");
  const chosen = new Set(cases.map((one) => one[STATUS]));
  let found = cases, limit = PAGE, by = null, down = false;

  // A model may be called <script>: text is only ever set as text.
  const made = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  const words = cases.map((one) =>
    [METRIC, WORKLOAD, CONFIG, MODEL, AREA, CODE, SENTENCE].map((place) => names[one[place]]).join(" ").toLowerCase());
  const place = new Map(cases.map((one, at) => [one, at]));

  function select() {
    const sought = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = cases.filter((one, at) => chosen.has(one[STATUS]) && (!area.value || names[one[AREA]] === area.value)
      && sought.every((word) => words[at].includes(word)));
    if (by) {
      const [, text, key] = by;
      const value = key || text;
      found = found.slice().sort((one, other) => compare(value(one), value(other)) || place.get(one) - place.get(other));
    }
    limit = PAGE;
    draw();
  }

  function compare(one, other) {
    // What is not there comes last, whichever way the others go.
    if (one === null || other === null) return (one === null) - (other === null);
    const way = typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
    return down ? -way : way;
  }

  function draw() {
    body.replaceChildren(...found.slice(0, limit).map(row));
    const left = found.length - Math.min(limit, found.length);
    told.textContent = `${found.length} of ${cases.length}`;
    more.hidden = !left;
    more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  }

  function row(one) {
    const line = made("tr");
    for (const [title, text, , number] of shown) {
      const cell = made(title === "metric" ? "th" : "td", undefined, number ? "n" : title in alike ? "wrap" : "");
      if (title === "metric") {
        cell.scope = "row";
        const button = made("button", text(one), "open");
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.addEventListener("click", () => open(line, button, one));
        cell.append(button);
      } else if (title === "verdict") {
        cell.append(made("span", text(one), `badge ${text(one)}`));
      } else {
        cell.textContent = text(one);
      }
      line.append(cell);
    }
    return line;
  }

  function open(line, button, one) {
    const opened = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!opened));
    if (opened) return line.nextElementSibling.remove();
    const cell = made("td", undefined, "detail");
    cell.colSpan = shown.length;
    const [unit, better, kind, meaning] = metrics[one[METRIC]];
    cell.append(made("p", names[one[SENTENCE]]));
    cell.append(made("p", `${meaning}; in ${unit}, ${better === "same" ? "should stay the same" : `${better} is better`}, ${kind}`
      + `${one[P] === null ? "" : `; family p = ${one[P].toPrecision(2)}`}; code ${names[one[CODE]]}`, "note"));
    cell.append(evidence(one));
    const detail = made("tr");
    detail.append(cell);
    line.after(detail);
  }

  // Each launch's rounds, with the journal's lines.
  function evidence(one) {
    const mine = rounds.filter(([, config, workload]) => config === one[CONFIG] && workload === one[WORKLOAD]);
    const list = made("table", undefined, "rounds");
    list.append(made("caption", `Rounds, in ${metrics[one[METRIC]][0]}`));
    const head = made("tr");
    for (const title of ["side", "launch", "round: value (line of journal.jsonl)"]) head.append(made("th", title));
    list.append(head);
    if (one[STORED]) one[STORED].forEach((launch, at) => list.append(launchRow("baseline", at, launch.map(String).join(", "))));
    const launches = new Map();
    for (const [side, , , launch, index, line, gates, values] of mine) {
      const value = values[one[METRIC]];
      const failed = gates.map((gate) => names[gate]).join(", ");
      const text = `${index}: ${value === undefined ? "none" : value}${failed ? `, failed ${failed}` : ""}${line === null ? "" : ` (${line})`}`;
      const key = `${names[side]} ${launch}`;
      if (!launches.has(key)) launches.set(key, [names[side], launch, []]);
      launches.get(key)[2].push(text);
    }
    for (const [side, launch, texts] of launches.values()) list.append(launchRow(side, launch, texts.join("; ")));
    if (list.rows.length === 1) return made("p", "No round of it was measured.", "note");
    return list;
  }

  function launchRow(side, launch, text) {
    const line = made("tr");
    line.append(made("td", side), made("td", String(launch), "n"), made("td", text));
    return line;
  }

  const heads = table.tHead.rows[0];
  for (const column of shown) {
    const head = made("th", undefined, column[3] ? "n" : "");
    head.scope = "col";
    const button = made("button", column[0], "sort");
    button.type = "button";
    button.addEventListener("click", () => {
      down = by === column ? !down : false;
      by = column;
      for (const other of heads.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      select();
    });
    head.append(button);
    heads.append(head);
  }
  for (const status of [...chosen].sort((one, other) => statuses.indexOf(names[one]) - statuses.indexOf(names[other]))) {
    const box = made("input"), label = made("label");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { box.checked ? chosen.add(status) : chosen.delete(status); select(); });
    label.append(box, " ", made("span", names[status], `badge ${names[status]}`));
    document.getElementById("statuses").append(label);
  }
  for (const name of [...new Set(cases.map((one) => names[one[AREA]]))].sort()) {
    const choice = made("option", name);
    choice.value = name;
    area.append(choice);
  }
  find.addEventListener("input", select);
  area.addEventListener("change", select);
  more.addEventListener("click", () => {
    const first = body.rows.length;
    limit += PAGE;
    body.append(...found.slice(limit - PAGE, limit).map(row));
    const left = Math.max(found.length - limit, 0);
    more.hidden = !left;
    more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
    body.rows[first].querySelector("button").focus();
  });
  window.addEventListener("beforeprint", () => { limit = Math.max(limit, MOST_IN_PRINT); draw(); });
  document.getElementById("controls").hidden = false;
  table.hidden = false;
  draw();
})();
