// Sorts a table by the column whose heading is pressed. The page is complete without it.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[table.tHead.rows.length - 1].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading));
  }
}

function sort(table, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: value(row.cells[heading.cellIndex]) }));
  const missing = rows.filter((one) => one.value === ""); // last, whatever the direction
  const known = rows.filter((one) => one.value !== "").sort(comparison(rows));
  if (descending) known.reverse();
  body.append(...[...known, ...missing].map((one) => one.row));
}

function value(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "–" ? "" : text;
}

function comparison(rows) {
  if (rows.every((one) => !Number.isNaN(Number(one.value)))) return (a, b) => a.value - b.value;
  return (a, b) => a.value.localeCompare(b.value, undefined, { numeric: true });
}
