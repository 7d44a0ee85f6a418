// The explorer's behaviour: decode maps when they are asked for, draw them, follow clicks, taps and keys.
(() => {
  "use strict";
  const root = document.getElementById("explorer");
  const data = JSON.parse(root.querySelector("script[data-explorer]").textContent);
  const find = (selector) => root.querySelector(selector);
  const all = (selector, within = root) => [...within.querySelectorAll(selector)];
  const QUERY_COLOUR = "rgb(0,255,160)";
  const KEPT = 16; // decoded layers that stay in memory, about half a megabyte each

  const query = { classToken: false, x: 0, y: 0 }; // a patch by its centre, in shares of the image
  let image = 0;
  const panels = all(".panel").map((element, number) => ({ element, number, asked: 0 }));

  // ---- maps: the counterpart of encode_layer in explorer.py ----

  const decoded = new Map(); // key -> promise of a layer, the last used at the end

  function layerMaps(key) {
    const found = decoded.get(key) ?? decode(find(`script[data-blob="${CSS.escape(key)}"]`).textContent);
    decoded.delete(key);
    decoded.set(key, found);
    if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
    return found;
  }

  async function decode(text) {
    if (!("DecompressionStream" in window)) throw new Error("this browser is too old: it lacks DecompressionStream");
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const [count, queries, keys, prefix, levels] = new Uint16Array(buffer, 0, 5);
    let at = 10;
    const take = (bytes) => buffer.slice(at, (at += bytes));
    const scale = new Float32Array(take(4 * count * queries));
    const prefixes = new Float32Array(take(4 * count * queries * prefix));
    const planes = new Uint8Array(take(count * queries * keys));
    return { count, queries, keys, prefix, levels, scale, prefixes, planes };
  }

  /** One query's row: attention to patches (values), the largest of them, and attention to prefix tokens. */
  function rowOf(maps, map, token) {
    const row = map * maps.queries + token;
    const max = maps.scale[row];
    const levels = maps.planes.subarray(row * maps.keys, (row + 1) * maps.keys);
    return {
      max,
      values: Array.from(levels, (level) => (max * level) / maps.levels),
      share: Float32Array.from(levels, (level) => level / maps.levels),
      prefix: maps.prefixes.subarray(row * maps.prefix, (row + 1) * maps.prefix),
    };
  }

  // ---- what a panel shows ----

  const modelOf = (panel) => data.models[panel.model];
  const depthOf = (panel) => modelOf(panel).patterns.length;
  const headsOf = (panel) => (image < data.headImages ? modelOf(panel).heads[panel.layer - 1] : 0);
  const asksClassToken = (panel) => query.classToken && modelOf(panel).classToken;

  /** The query's place on this model's grid: [row, column]. */
  function patchOf(panel, x = query.x, y = query.y) {
    const [rows, columns] = modelOf(panel).grid;
    const within = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value * count)));
    return [within(y, rows), within(x, columns)];
  }

  function setModel(panel, model) {
    panel.model = model;
    panel.layer = modelOf(panel).chosen ?? Math.ceil(depthOf(panel) / 2);
    panel.head = 0;
  }

  function setLayer(panel, layer) {
    panel.layer = Math.min(depthOf(panel), Math.max(1, layer));
    if (panel.head > headsOf(panel)) panel.head = 0; // layers can differ in heads
    if (!find("[data-link-layers]").checked) return;
    const depth = depthOf(panel) > 1 ? (panel.layer - 1) / (depthOf(panel) - 1) : 0;
    for (const other of panels) {
      if (other === panel) continue;
      other.layer = 1 + Math.round(depth * (depthOf(other) - 1));
      if (other.head > headsOf(other)) other.head = 0;
    }
  }

  function setImage(number) {
    image = number;
    for (const panel of panels) if (panel.head > headsOf(panel)) panel.head = 0;
    [query.x, query.y] = data.images[number].start;
    query.classToken = false;
  }

  function setPatch(panel, row, column) {
    const [rows, columns] = modelOf(panel).grid;
    query.x = (Math.min(columns - 1, Math.max(0, column)) + 0.5) / columns;
    query.y = (Math.min(rows - 1, Math.max(0, row)) + 0.5) / rows;
    query.classToken = false;
  }

  // ---- drawing ----

  const greys = new Map(); // "image/variant" -> promise of luminance, one byte a canvas pixel

  function greyOf(number, variant, side) {
    const key = `${number}/${variant}`;
    if (!greys.has(key)) greys.set(key, readGrey(number, variant, side));
    return greys.get(key);
  }

  async function readGrey(number, variant, side) {
    const picture = all(`[data-image="${number}"] img`).find((img) => img.dataset.variant === variant);
    await picture.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, side, side);
    const pixels = context.getImageData(0, 0, side, side).data;
    const luminance = (_, i) => 0.299 * pixels[4 * i] + 0.587 * pixels[4 * i + 1] + 0.114 * pixels[4 * i + 2];
    return Uint8ClampedArray.from({ length: side * side }, luminance);
  }

  /** For each of `side` pixels the four cells and weights of bicubic interpolation (a = -1/2), or its own cell. */
  function taps(count, side, smooth) {
    return Array.from({ length: side }, (_, pixel) => {
      const place = ((pixel + 0.5) * count) / side;
      if (!smooth) return { cells: [Math.floor(place)], weights: [1] };
      const first = Math.floor(place - 0.5);
      const t = place - 0.5 - first;
      const clamped = (cell) => Math.min(count - 1, Math.max(0, cell));
      return {
        cells: [first - 1, first, first + 1, first + 2].map(clamped),
        weights: [
          (-t + 2 * t * t - t * t * t) / 2,
          (2 - 5 * t * t + 3 * t * t * t) / 2,
          (t + 4 * t * t - 3 * t * t * t) / 2,
          (t * t * t - t * t) / 2,
        ],
      };
    });
  }

  function enlarge(share, [rows, columns], side, smooth) {
    const across = taps(columns, side, smooth);
    const wide = new Float32Array(rows * side);
    for (let row = 0; row < rows; row++) {
      across.forEach(({ cells, weights }, x) => {
        cells.forEach((cell, i) => (wide[row * side + x] += weights[i] * share[row * columns + cell]));
      });
    }
    const full = new Float32Array(side * side);
    taps(rows, side, smooth).forEach(({ cells, weights }, y) => {
      cells.forEach((cell, i) => {
        const weight = weights[i];
        for (let x = 0; x < side; x++) full[y * side + x] += weight * wide[cell * side + x];
      });
    });
    return full;
  }

  function paint(panel, grey, share) {
    const canvas = panel.element.querySelector("canvas.map");
    const side = canvas.width;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(side, side);
    enlarge(share, modelOf(panel).grid, side, find("[data-smooth]").checked).forEach((value, i) => {
      const level = Math.min(1, Math.max(0, value));
      const colour = 3 * Math.round(255 * level);
      const weight = 0.25 + 0.65 * level; // as attention_picture in attention/pictures.py
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = data.inferno[colour + c] * weight + grey[i] * (1 - weight);
      pixels.data[4 * i + 3] = 255;
    });
    context.putImageData(pixels, 0, 0);
    if (asksClassToken(panel)) return;
    const [rows, columns] = modelOf(panel).grid;
    const [row, column] = patchOf(panel);
    const [width, height] = [side / columns, side / rows];
    const box = [column * width + 1.5, row * height + 1.5, width - 3, height - 3];
    for (const [colour, line] of [["rgba(0,0,0,.7)", 6], [QUERY_COLOUR, 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(...box);
    }
  }

  // ---- words ----

  const number = (value) => (value >= 0.001 ? value.toPrecision(3) : value.toExponential(1));
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const headName = (head) => (head ? `head ${head}` : "mean over heads");

  function describe(panel) {
    const { grid, classToken, registers } = modelOf(panel);
    const { max, prefix } = panel.shown;
    const [row, column] = patchOf(panel);
    const patch = `row ${row + 1} of ${grid[0]}, column ${column + 1} of ${grid[1]}`;
    const parts = [asksClassToken(panel) ? "Query: class token." : `Query: ${patch}.`];
    if (query.classToken && !classToken) parts[0] = `This model has no class token; query: ${patch}.`;
    parts.push(`Largest attention to a patch ${number(max)}.`);
    if (classToken) parts.push(`On the class token ${percent(prefix[0])}.`);
    const rest = prefix.slice(classToken ? 1 : 0).reduce((sum, value) => sum + value, 0);
    if (registers) parts.push(`On ${registers} register${registers > 1 ? "s" : ""} ${percent(rest)}.`);
    panel.element.querySelector(".readout").textContent = parts.join(" ");
    panel.element.querySelector("[data-max]").textContent = number(max);
    const what = `${modelOf(panel).name}, layer ${panel.layer}, ${headName(panel.head)}`;
    panel.element.querySelector("canvas.map").setAttribute("aria-label", `Attention of ${what}`);
    pointAt(panel);
  }

  function pointAt(panel) {
    let text = "";
    if (panel.pointer && panel.shown) {
      const [row, column] = patchOf(panel, ...panel.pointer);
      const value = panel.shown.values[row * modelOf(panel).grid[1] + column];
      text = `Under the pointer: row ${row + 1}, column ${column + 1}, attention ${number(value)}`;
    }
    panel.element.querySelector(".under").textContent = text;
  }

  // ---- controls ----

  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));

  /** Fill a row with buttons, keeping those that are there (and with them the focus). */
  function buttons(row, count, act) {
    while (row.children.length > count) row.lastChild.remove();
    while (row.children.length < count) {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.addEventListener("click", () => act([...row.children].indexOf(button)));
      row.append(button);
    }
    return [...row.children];
  }

  function controls(panel) {
    const { patterns, chosen } = modelOf(panel);
    panel.element.querySelector("select").value = panel.model;
    for (const button of all("button[data-variant]", panel.element)) {
      press(button, button.dataset.variant === panel.variant);
    }
    const chooseLayer = (index) => change(() => setLayer(panel, index + 1));
    buttons(panel.element.querySelector(".layers"), patterns.length, chooseLayer).forEach((button, index) => {
      const recommended = index + 1 === chosen;
      const small = document.createElement("small");
      small.textContent = patterns[index][0].toUpperCase() + (recommended ? " ★" : "");
      button.className = patterns[index];
      button.title = `layer ${index + 1}: ${patterns[index]}${recommended ? ", recommended" : ""}`;
      button.setAttribute("aria-label", button.title);
      button.replaceChildren(String(index + 1), small);
      press(button, index + 1 === panel.layer);
    });
    const chooseHead = (index) => change(() => (panel.head = index));
    buttons(panel.element.querySelector(".heads"), headsOf(panel) + 1, chooseHead).forEach((button, index) => {
      button.textContent = index || "mean";
      button.setAttribute("aria-label", headName(index));
      press(button, index === panel.head);
    });
  }

  async function show(panel) {
    const asked = ++panel.asked;
    try {
      const key = `${panel.model}/${panel.variant}/${image}/${panel.layer}`;
      const side = panel.element.querySelector("canvas.map").width;
      const [maps, grey] = await Promise.all([layerMaps(key), greyOf(image, panel.variant, side)]);
      if (asked !== panel.asked) return panel.drawn; // something else was asked for meanwhile
      const { grid, classToken, registers } = modelOf(panel);
      const [row, column] = patchOf(panel);
      const token = asksClassToken(panel) ? 0 : Number(classToken) + registers + row * grid[1] + column;
      panel.shown = rowOf(maps, panel.head ? panel.head - 1 : maps.count - 1, token);
      paint(panel, grey, panel.shown.share);
      describe(panel);
    } catch (error) {
      panel.shown = undefined;
      panel.element.querySelector(".readout").textContent = `Cannot show this map: ${error.message}.`;
    }
  }

  function change(act) {
    act();
    all("[data-image]").forEach((button) => press(button, Number(button.dataset.image) === image));
    const token = find("[data-class-token]");
    if (token) press(token, query.classToken);
    for (const panel of panels) {
      controls(panel);
      panel.drawn = show(panel);
    }
  }

  // ---- pointer and keys ----

  function place(canvas, event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  /** What a key does on a panel's picture, or undefined. */
  function action(panel, key) {
    const [row, column] = patchOf(panel);
    const heads = headsOf(panel) + 1;
    const digit = /^[1-9]$/.test(key) ? Number(key) - 1 : -1;
    if (digit >= 0) return digit < data.images.length ? () => setImage(digit) : undefined;
    return {
      ArrowLeft: () => setPatch(panel, row, column - 1),
      ArrowRight: () => setPatch(panel, row, column + 1),
      ArrowUp: () => setPatch(panel, row - 1, column),
      ArrowDown: () => setPatch(panel, row + 1, column),
      "[": () => setLayer(panel, panel.layer - 1),
      "]": () => setLayer(panel, panel.layer + 1),
      h: () => (panel.head = (panel.head + 1) % heads),
      H: () => (panel.head = (panel.head + heads - 1) % heads),
      c: find("[data-class-token]") ? () => (query.classToken = !query.classToken) : undefined,
    }[key];
  }

  for (const panel of panels) {
    const canvas = panel.element.querySelector("canvas.map");
    canvas.addEventListener("click", (event) => {
      const [x, y] = place(canvas, event);
      change(() => setPatch(panel, ...patchOf(panel, x, y)));
    });
    canvas.addEventListener("pointermove", (event) => {
      panel.pointer = event.pointerType === "mouse" ? place(canvas, event) : null; // a finger is no pointer
      pointAt(panel);
    });
    canvas.addEventListener("pointerleave", () => {
      panel.pointer = null;
      pointAt(panel);
    });
    canvas.addEventListener("keydown", (event) => {
      if ((event.ctrlKey && !event.altKey) || event.metaKey) return; // Ctrl+Alt types [ and ] on some keyboards
      const act = action(panel, event.key);
      if (!act) return;
      event.preventDefault();
      change(act);
    });
    panel.element.querySelector("select").addEventListener("change", (event) => {
      change(() => setModel(panel, Number(event.target.value)));
    });
    for (const button of all("button[data-variant]", panel.element)) {
      button.addEventListener("click", () => change(() => (panel.variant = button.dataset.variant)));
    }
    const bar = panel.element.querySelector(".bar canvas").getContext("2d");
    const colours = bar.createImageData(256, 1);
    for (let i = 0; i < 256; i++) colours.data.set([...data.inferno.slice(3 * i, 3 * i + 3), 255], 4 * i);
    bar.putImageData(colours, 0, 0);
  }
  for (const button of all("[data-image]")) {
    button.addEventListener("click", () => change(() => setImage(Number(button.dataset.image))));
  }
  find("[data-class-token]")?.addEventListener("click", () => change(() => (query.classToken = !query.classToken)));
  find("[data-smooth]").addEventListener("change", () => change(() => {}));
  find("[data-link-layers]").addEventListener("change", () => change(() => setLayer(panels[0], panels[0].layer)));

  // ---- start: two models beside each other, else one model on both variants, else two of its layers ----

  change(() => {
    for (const panel of panels) {
      setModel(panel, Math.min(panel.number, data.models.length - 1));
      panel.variant = data.variants[0];
    }
    setImage(0);
    if (data.models.length > 1) return;
    if (data.variants.length > 1) panels[1].variant = data.variants[1];
    else panels[1].layer = panels[0].layer === depthOf(panels[0]) ? 1 : depthOf(panels[0]);
  });

  window.explorer = {
    /** The query and what each panel shows, as plain values; patches are counted row by row from 0, layers from 1. */
    state: () => ({
      image,
      classToken: query.classToken,
      panels: panels.map((panel) => {
        const [row, column] = patchOf(panel);
        const { name, grid } = modelOf(panel);
        const { layer, variant } = panel;
        return { model: name, layer, head: panel.head || "mean", variant, patch: row * grid[1] + column };
      }),
    }),
    /** Promise of the attention to each patch that a panel (0 or 1) shows. */
    row: async (number) => {
      await panels[number].drawn;
      return panels[number].shown.values;
    },
  };
})();
