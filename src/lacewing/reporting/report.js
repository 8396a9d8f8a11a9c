"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);

  // Sorting: a click on a title sorts upwards, a second one downwards. Cells without a value stay last.
  const table = $("#networks-table");
  if (table) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const numeric = head.classList.contains("num");
      const rows = [...body.rows].map((row) => [row.cells[column].dataset.v, row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en");
        return down ? -order : order;
      });
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows.map(([, row]) => row));
    }));
    const filter = table.closest(".card").querySelector(".filter");
    const buttons = [...filter.querySelectorAll("button")];
    filter.hidden = false;
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      for (const row of body.rows) row.hidden = button.dataset.role !== "" && row.dataset.role !== button.dataset.role;
    }));
  }

  // "I can afford to lose p %": the answers were computed beforehand, each valid from its p up to the next one's.
  const form = $("#afford");
  if (form) {
    const steps = JSON.parse($("#afford-steps").textContent);
    const [exact, range] = [$("#afford-p"), $("#afford-range")];
    const [name, text] = $("#afford-answer").children;
    const answer = (from, to) => {
      const p = from.valueAsNumber;
      if (from.value === "" || Number.isNaN(p) || p < 0) {
        name.textContent = "";
        text.textContent = "Give a number of per cent from 0 to 100.";
        return;
      }
      if (to) to.value = String(p);
      const step = steps.filter((s) => s.from <= p + 1e-9).pop();
      name.textContent = step.network;
      text.textContent = step.sentence;
    };
    exact.addEventListener("input", () => answer(exact, range));
    range.addEventListener("input", () => answer(range, exact));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    answer(exact, range);
  }

  const copy = $("#copy");
  if (copy && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => navigator.clipboard.writeText($("pre code").textContent)
      .then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Select and copy by hand"; }));
  }
})();
