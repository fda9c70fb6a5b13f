// <surus-explore>: around a plain form with <textarea name="query">, which then completes PromQL and runs with Enter.
// With from and to (epoch ms) it also draws the query of the address and shows it as a table; without them that is the
// page's part. What the server renders only for those without a script stands in [data-without-script].

import { ApiError, instant, type Sample } from "./api";
import { Combobox } from "./combobox";
import { make } from "./elements";
import { OURS } from "./swap";

const ROWS = 500;
const HEIGHT_PX = 300;

class Explore extends HTMLElement {
  static readonly observedAttributes = ["from", "to"];

  private readonly results = document.createElement("surus-results");
  private readonly plot = document.createElement("surus-plot");
  private readonly heap = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" });
  private readonly said = make("p", { class: "crit", role: "alert", hidden: true });
  private field: HTMLTextAreaElement | undefined;
  private shown = "";
  private asking: AbortController | undefined;
  private readonly again = (): void => this.show();

  connectedCallback(): void {
    this.results.setAttribute(OURS, "results");
    if (!this.results.isConnected) {
      this.results.append(this.said, this.plot, this.heap);
      this.append(this.results);
    }
    document.addEventListener("surus:morphed", this.again);
    this.show();
  }

  disconnectedCallback(): void {
    document.removeEventListener("surus:morphed", this.again);
    this.asking?.abort();
  }

  attributeChangedCallback(): void {
    if (this.isConnected) queueMicrotask(this.again);
  }

  /** The query that the address carries, over the range of the page. */
  private show(): void {
    const field = this.querySelector<HTMLTextAreaElement>("textarea[name=query]");
    if (field && field !== this.field) {
      this.field = field;
      new Combobox(field, () => field.form?.requestSubmit());
    }
    const query = (new URLSearchParams(location.search).get("query") ?? "").trim();
    const from = this.getAttribute("from") ?? String(Date.now() - 3_600_000);
    const to = this.getAttribute("to") ?? String(Date.now());
    const asks = JSON.stringify([query, this.getAttribute("from"), this.getAttribute("to")]);
    this.results.hidden = query === "" || !this.hasAttribute("from");
    if (this.results.hidden || asks === this.shown) return;
    this.shown = asks;
    const attributes = {
      queries: JSON.stringify([{ expr: query }]), from, to, height: String(HEIGHT_PX), min: "auto", label: query,
      empty: "The query is right, but there are no values in this range.",
    };
    for (const [name, value] of Object.entries(attributes)) this.plot.setAttribute(name, value);
    void this.ask(query, Number(to) / 1000);
  }

  private async ask(query: string, time: number): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    try {
      const samples = await instant(query, time, asking.signal);
      if (asking.signal.aborted) return;
      this.said.hidden = true;
      this.plot.hidden = this.heap.hidden = false;
      this.heap.replaceChildren(table(samples));
    } catch (error) {
      if (asking.signal.aborted) return;
      this.said.textContent = error instanceof ApiError ? error.message : String(error);
      this.said.hidden = false;
      this.plot.hidden = this.heap.hidden = true;
    }
  }
}

/** The value without the last digits of a double, which are noise. */
function plain(text: string): string {
  const value = Number(text);
  return Number.isFinite(value) ? String(Number(value.toPrecision(12))) : text;
}

/** One row for each series; its labels as columns. */
function table(samples: readonly Sample[]): HTMLElement {
  if (samples.length === 0) return make("p", { class: "faint" }, "No series has a value at the end of the range.");
  const labels = [...new Set(samples.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const head = [...labels.map((label) => (label === "__name__" ? "metric" : label)), "value"];
  const rows = samples.slice(0, ROWS).map(({ metric, value }) => make("tr", {},
    ...labels.map((label) => make("td", {}, metric[label] ?? "")),
    make("td", { class: "number", title: value[1] }, plain(value[1]))));
  const count = samples.length > ROWS ? `The first ${ROWS} of ${samples.length} series` : `${samples.length} series`;
  return make("table", {},
    make("caption", {}, `${count} at the end of the range`),
    make("thead", {}, make("tr", {}, ...head.map((name, at) => (
      make("th", { scope: "col", class: at === labels.length ? "number" : undefined }, name)
    )))),
    make("tbody", {}, ...rows));
}

customElements.define("surus-explore", Explore);
