// sorts a table by the column whose head is clicked: numbers as numbers, all else as text
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (one, other) => value(one) - value(other) || value(one).localeCompare(value(other), "en", {numeric: true});
    body.append(...[...body.rows].sort((one, other) => sign * compare(one, other)));
  }));
}
