/** Who decides: the name of this browser's reviewer, blind double review, and how far they agree. */

import { inPercent, make, percent } from "./dom.js";
import { keep, kept } from "./storage.js";

const KEY = "review-reviewer";
const MOST_RELEASED = 1000;
const HEADINGS = ["reviewers", "both decided", "agreement", "kappa"];

export class Reviewers {
  /**
   * onChange(name, released): another reviewer goes on here, once what the former one held is
   * released. onShare(): other samples may be blind now.
   */
  constructor(desk, { onChange, onShare }) {
    this.desk = desk;
    this.part = desk.part;
    desk.server.reviewer = kept(KEY) || null;
    this.part.reviewerForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.changeName(onChange);
    });
    this.part.reviewerClose.addEventListener("click", () => this.part.reviewerDialog.close());
    this.part.shareSet.addEventListener("click", () => this.setShare(onShare));
  }

  showName(name) {
    this.part.who.textContent = name;
    this.desk.button("reviewer").setAttribute("aria-label", `Reviewer: ${name}`);
  }

  /**
   * The dialog stays open, so that nothing is decided, until the server has taken the name. What this
   * page held for the former reviewer is free for others at once.
   */
  async changeName(onChange) {
    const { server, session, queue } = this.desk;
    const dialog = this.part.reviewerDialog;
    const name = this.part.reviewerInput.value.trim();
    if (!name || name === session?.reviewer) return dialog.close();
    this.part.reviewerProblem.textContent = "";
    try {
      await server.get("/session", name);
    } catch (error) {
      this.part.reviewerProblem.textContent = error.message;
      return undefined;
    }
    if (!dialog.open) return undefined; // It is no longer meant.
    dialog.close();
    keep(KEY, name);
    const release = queue.samples.slice(-MOST_RELEASED).map((one) => one.sample_id);
    const released = server.post("/leases", { release }).catch(() => {});
    return onChange(name, released);
  }

  open() {
    const { server, session } = this.desk;
    this.part.reviewerInput.value = session?.reviewer ?? server.reviewer;
    this.part.shareInput.value = session ? inPercent(session.double_share) : "";
    this.part.reviewerProblem.textContent = "";
    this.part.reviewerDialog.showModal();
    this.part.reviewerInput.select();
    this.showAgreement();
  }

  async showAgreement() {
    try {
      const { n_disputed: nDisputed, pairs } = await this.desk.server.get("/agreement");
      this.part.agreement.replaceChildren(agreementTable(pairs, nDisputed));
    } catch (error) {
      this.part.reviewerProblem.textContent = error.message;
    }
  }

  async setShare(onShare) {
    if (!this.part.shareInput.reportValidity()) return;
    const share = Number(this.part.shareInput.value) / 100;
    try {
      await this.desk.server.put("/double", { share });
      this.desk.session.double_share = share;
      this.part.reviewerProblem.textContent = "";
      await this.showAgreement();
      onShare();
    } catch (error) {
      this.part.reviewerProblem.textContent = error.message;
    }
  }
}

function agreementTable(pairs, nDisputed) {
  if (pairs.length === 0) return make("p", "desk-small", "No image has been decided twice yet.");
  const table = make("table", "desk-table");
  const head = make("tr");
  head.append(...HEADINGS.map((text) => make("th", "", text)));
  table.append(make("caption", "desk-small", `${nDisputed} disputed now`), head);
  for (const { first, second, n, agreement, kappa } of pairs) {
    const row = make("tr");
    const cells = [
      `${first}, ${second}`,
      `${n}`,
      percent(agreement),
      kappa === null ? "undefined" : kappa.toFixed(2),
    ];
    row.append(...cells.map((text) => make("td", "", text)));
    table.append(row);
  }
  return table;
}
