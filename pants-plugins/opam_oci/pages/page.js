"use strict";
// Filters and sorts the page's table with `data-rows` (what its rows are called), moves among its rows by arrow keys, and opens
// what a link leads to. The page shows all of its text without this.
(() => {
  const table = document.querySelector("table[data-rows]");
  const form = document.getElementById("filters");
  if (!table || !form) return;
  const body = table.tBodies[0];
  const called = " " + table.dataset.rows;
  const rows = Array.from(body.rows);
  const said = document.getElementById("shown");
  let texts = null;
  const selects = Array.from(form.querySelectorAll("select"));
  form.hidden = false;

  function filter() {
    texts = texts || rows.map((row) => row.textContent.toLowerCase());
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value !== "").map((select) => [select.name, select.value]);
    let count = 0;
    rows.forEach((row, number) => {
      const fits = words.every((word) => texts[number].includes(word)) &&
        wanted.every(([name, value]) => (row.dataset[name] || "") === (value === "-" ? "" : value));
      row.hidden = !fits;
      if (fits) count += 1;
    });
    said.textContent = count + " of " + rows.length + called;
    enter();
  }

  function sort(column, heading) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numbers = heading.classList.contains("n");
    const keys = new Map(rows.map((row) => {
      const text = row.cells[column].dataset.sort ?? row.cells[column].textContent;
      return [row, numbers ? Number.parseFloat(text) : text];
    }));
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    rows.slice().sort((one, other) => {
      const a = keys.get(one), b = keys.get(other);
      // What is not known comes last, whichever way.
      if (numbers) {
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return down ? b - a : a - b;
      }
      if (a === "" || b === "") return (a === "") - (b === "");
      return down ? compare(b, a) : compare(a, b);
    }).forEach((row) => body.appendChild(row));
    enter();
  }

  // One row is reached by Tab, the others from it by arrows, Home and End; Enter follows its link.
  let current = null;
  function enter(row) {
    const next = row || Array.from(body.rows).find((other) => !other.hidden) || null;
    // A row that loses its tabindex loses the focus.
    if (current && current !== next) current.removeAttribute("tabindex");
    current = next;
    if (current) current.tabIndex = 0;
  }

  function beside(row, step) {
    let next = row;
    do next = step > 0 ? next.nextElementSibling : next.previousElementSibling; while (next && next.hidden);
    return next;
  }

  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    if (event.target !== row || event.altKey || event.ctrlKey || event.metaKey) return;
    const visible = () => Array.from(body.rows).filter((other) => !other.hidden);
    let next = null;
    if (event.key === "ArrowDown") next = beside(row, 1);
    else if (event.key === "ArrowUp") next = beside(row, -1);
    else if (event.key === "Home") next = visible()[0];
    else if (event.key === "End") next = visible().pop();
    else if (event.key === "Enter") { const link = row.querySelector("a"); if (link) link.click(); return; }
    else return;
    event.preventDefault();
    if (next) { enter(next); next.focus(); }
  });
  body.addEventListener("focusin", (event) => {
    const row = event.target.closest("tr");
    if (event.target === row) enter(row);
  });

  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => sort(column, heading));
  });
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  said.textContent = rows.length + called;
  enter();

  function open() {
    let target = null;
    try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    const details = target && target.closest("details");
    if (!details) return;
    details.open = true;
    const summary = details.querySelector("summary");
    summary.focus();
    summary.scrollIntoView();
  }
  // What a log ends with says most.
  document.addEventListener("toggle", (event) => {
    if (event.target.open) event.target.querySelectorAll("pre").forEach((log) => { log.scrollTop = log.scrollHeight; });
  }, true);
  window.addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) open();
  });
  open();
})();
