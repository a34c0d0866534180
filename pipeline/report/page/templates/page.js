// Unpacks the libraries, then gives tables to DataTables and charts to Plotly.
const byId = (name) => document.getElementById(name);
const unpack = async (name) => {
  const packed = await fetch(`data:application/gzip;base64,${byId(name).textContent}`);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
};
const isDark = matchMedia("(prefers-color-scheme: dark)");

// The text of the nearest heading above an element.
function findHeading(element) {
  const headings = [...document.querySelectorAll("h2, h3")];
  const isAbove = (h) => h.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING;
  return headings.filter(isAbove).at(-1)?.textContent ?? "";
}

async function makeTables() {
  const code = new Blob([await unpack("datatables-code")], { type: "text/javascript" });
  const { default: DataTable } = await import(URL.createObjectURL(code));
  document.querySelectorAll("table.sortable").forEach((table, place) => {
    const rows = [...table.tBodies[0].rows];
    const name = findHeading(table);
    // A row without a name belongs to the one above it, so such a table keeps its order.
    const canSort = rows.every((row) => row.cells[0].textContent.trim());
    new DataTable(table, {
      paging: false, info: false, order: [], autoWidth: false, ordering: canSort,
      searching: canSort && rows.length > 7,
      language: { search: "Filter", searchPlaceholder: `rows of ${name}` },
    });
    const wide = document.createElement("div");
    wide.className = "wide";
    wide.tabIndex = 0;
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", `Table ${place + 1}: ${name}`);
    table.replaceWith(wide);
    wide.append(table);
  });
}

function chooseColours(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const changes = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": colour("--ink"),
    "hoverlabel.bgcolor": colour("--paper"), "hoverlabel.bordercolor": colour("--faint"),
    "hoverlabel.font.color": colour("--ink"), "hoverlabel.align": "left",
  };
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    changes[`${axis}.gridcolor`] = colour("--grid");
    changes[`${axis}.linecolor`] = colour("--faint");
  }
  (layout.updatemenus ?? []).forEach((_, place) => {
    changes[`updatemenus[${place}].bgcolor`] = colour("--band");
    changes[`updatemenus[${place}].bordercolor`] = colour("--rule");
  });
  return changes;
}

async function drawCharts() {
  const library = document.createElement("script");
  library.textContent = await unpack("plotly-code");
  document.head.append(library);
  const figures = JSON.parse(await unpack("figures-data"));
  for (const [name, text] of Object.entries(figures)) {
    const { data, layout } = JSON.parse(text);
    const place = byId(name);
    await Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
    const paint = () => Plotly.relayout(place, chooseColours(place.layout));
    await paint();
    isDark.addEventListener("change", paint);
  }
}

async function showArtefacts() {
  const artefacts = JSON.parse(await unpack("provenance-data"));
  const dialog = byId("provenance");
  const show = () => {
    const found = artefacts[location.hash.replace("#artefact-", "")];
    if (!found) return;
    byId("provenance-title").textContent = `${found.title} (${found.key})`;
    const list = dialog.querySelector("dl");
    list.replaceChildren();
    const add = (label, content) => {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = label;
      value.append(content);
      list.append(term, value);
    };
    for (const [role, key, name] of found.inputs) {
      const link = document.createElement("a");
      link.href = `#artefact-${key}`;
      link.textContent = `${name} (${key})`;
      add(`made from: ${role}`, link);
    }
    for (const [label, text] of found.rows) {
      const code = document.createElement("pre");
      code.textContent = text;
      add(label, code);
    }
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname));
  addEventListener("hashchange", show);
  show();
}

await Promise.all([makeTables(), drawCharts(), showArtefacts()]);
document.documentElement.dataset.ready = "true";
