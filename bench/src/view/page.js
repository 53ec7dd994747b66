'use strict';
// The dashboard. Everything shown was computed before; here it is only drawn. No request leaves the page.
const DATA = JSON.parse(document.getElementById('data').textContent);
const RUNS = DATA.runs.map((run, n) => ({ ...run, n, color: `--c${n % 6}` }));
const state = { hidden: new Set(), layout: 'overlay', zoom: null, hover: null };
const $ = id => document.getElementById(id);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const visible = () => RUNS.filter(run => !state.hidden.has(run.n));

// ---- words ---------------------------------------------------------------------------------------
const three = x => Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2);
const scaled = (x, base, units) => {
  let at = 0;
  while (Math.abs(x) >= base && at < units.length - 1) { x /= base; at++; }
  return [x, units[at]];
};
const say = {
  time: ns => { if (!ns) return '0'; const [x, u] = scaled(ns, 1000, ['ns', 'µs', 'ms', 's']); return `${three(x)} ${u}`; },
  count: n => { if (Math.abs(n) < 1000) return Number.isInteger(n) ? `${n}` : three(n); const [x, u] = scaled(n, 1000, ['', 'k', 'M', 'G']); return three(x) + u; },
  bytes: n => { const [x, u] = scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB']); return `${three(x)} ${u}/s`; },
  percent: x => `${(x * 100).toFixed(x > 0.995 && x < 1 ? 3 : 1)} %`,
  seconds: s => s >= 3600 ? `${three(s / 3600)} h` : s >= 60 && s % 60 === 0 ? `${s / 60} min` : `${+s.toFixed(2)} s`,
  nines: n => n <= 0 ? '0 %' : `${+(100 - 100 * 10 ** -n).toFixed(Math.max(0, Math.ceil(n) - 1))} %`,
};
const element = (tag, { attributes = {}, ...properties } = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
const sum = list => list.reduce((a, b) => a + (b ?? 0), 0);
const FAILURES = ['errors', 'timeouts', 'lost', 'unsent', 'disconnects', 'garbage', 'wrong', 'torn', 'stale', 'stale_after_delete', 'never_written'];
const failures = run => sum(FAILURES.map(name => sum(run.series[name].map((rate, i) => rate * run.series.seconds[i]))));
const mean = list => { const known = list.filter(x => x !== null); return known.length ? sum(known) / known.length : null; };

// ---- panels --------------------------------------------------------------------------------------
const DASHES = { solid: [], dash: [6, 4], dot: [2, 3] };
const PANELS = [
  { id: 'throughput', title: 'Throughput', note: 'replies a second', say: say.count, zero: true,
    lines: [{ key: 'throughput', label: 'achieved' }, { key: 'rate', label: 'intended', dash: 'dash', thin: true }] },
  { id: 'latency', title: 'Latency percentiles', note: 'from the intended send time, logarithmic', say: say.time, log: true,
    lines: [{ key: 'p50', label: 'p50', dash: 'dot' }, { key: 'p90', label: 'p90', thin: true, dash: 'dash' }, { key: 'p99', label: 'p99' }, { key: 'p999', label: 'p99.9', thin: true }, { key: 'max', label: 'max', thin: true, faint: true }] },
  { id: 'heat', title: 'Latency heatmap', note: 'stronger is more replies, logarithmic in both', kind: 'heat', say: say.time, log: true },
  { id: 'nines', title: 'Latency distribution', note: 'latency that this share of replies stayed below', kind: 'xy', say: say.time, log: true, sayX: say.nines,
    points: run => [{ label: run.name, list: run.total.cdf }] },
  { id: 'steps', title: 'Latency against rate', note: 'each point a step of the search', kind: 'xy', say: say.time, log: true, sayX: say.count, marks: true,
    when: run => run.steps.length > 0,
    points: run => [['p50', 'dot'], ['p99', 'solid'], ['p999', 'dash']].map(([q, dash]) => ({ label: q === 'p999' ? 'p99.9' : q, dash, list: run.steps.map(s => [s.throughput, s.latency[q]]) })) },
  { id: 'hits', title: 'Hit ratio', note: 'found keys of those asked for', say: say.percent, top: 1, when: run => run.series.hit_ratio.some(x => x !== null),
    lines: [{ key: 'hit_ratio', label: 'hit ratio' }] },
  { id: 'failures', title: 'Errors', note: 'a second, by cause', say: say.count, zero: true,
    lines: FAILURES.map((key, i) => ({ key, label: key.replaceAll('_', ' '), dash: ['solid', 'dash', 'dot'][i % 3], thin: i > 2, onlyIfAny: true })) },
  { id: 'bandwidth', title: 'Bandwidth', note: 'of the generator', say: say.bytes, zero: true, base: 1024,
    lines: [{ key: 'bytes_received', label: 'received' }, { key: 'bytes_sent', label: 'sent', dash: 'dash' }] },
  { id: 'first', title: 'Time to first byte', note: 'from the send time, logarithmic', say: say.time, log: true,
    lines: [{ key: 'first_byte_p50', label: 'p50', dash: 'dot' }, { key: 'first_byte_p99', label: 'p99' },
      { key: 'kernel_p50', label: 'p50 by the kernel\'s clock', dash: 'dot', thin: true, onlyIfAny: true }, { key: 'kernel_p99', label: 'p99 by the kernel\'s clock', thin: true, onlyIfAny: true }] },
  { id: 'connections', title: 'Connections and queues', note: 'at the end of each interval', say: say.count, zero: true,
    lines: [{ key: 'connections', label: 'connections' }, { key: 'in_flight', label: 'in flight', dash: 'dash' }, { key: 'backlog', label: 'due and waiting', dash: 'dot' }] },
  { id: 'cpu', title: 'CPU', note: 'in processors', say: three, zero: true,
    lines: [{ key: 'own_cpu', label: 'generator', dash: 'dash' }, { key: 'server_cpu', label: 'server', onlyIfAny: true }] },
];

const cells = [];
function build() {
  cells.length = 0;
  const host = $('panels');
  host.replaceChildren();
  const runs = visible();
  for (const panel of PANELS) {
    const shown = runs.filter(run => !panel.when || panel.when(run));
    if (!shown.length) continue;
    const apart = (state.layout === 'side' || panel.kind === 'heat') && shown.length > 1;
    const groups = apart ? shown.map(run => [run]) : [shown];
    const box = element('article', { className: 'panel', id: `panel-${panel.id}` });
    if (apart) box.classList.add('wide');
    const png = element('button', { textContent: 'PNG', title: 'Save this chart as a picture', onclick: () => savePicture([panel.id], panel.id) });
    const csv = element('button', { textContent: 'CSV', title: 'Save this chart as a table', onclick: () => saveTable([panel], panel.id) });
    box.append(element('h3', {}, panel.title, element('small', { textContent: panel.note }), element('span', { className: 'push' }, png, csv)));
    if (panel.lines || panel.kind === 'xy') box.append(legend(panel, shown));
    const grid = element('div', { className: 'cells' });
    grid.style.setProperty('--columns', Math.min(groups.length, 3));
    for (const group of groups) {
      const canvas = element('canvas', { attributes: { role: 'img', 'aria-label': `${panel.title}: ${group.map(r => r.name).join(', ')}` } });
      const cell = { panel, runs: group, shown, canvas };
      const wrap = element('div', { className: 'cell' });
      if (apart) wrap.append(element('small', { textContent: group[0].name }));
      wrap.append(canvas);
      grid.append(wrap);
      cells.push(cell);
      listen(cell);
    }
    box.append(grid);
    host.append(box);
  }
  draw();
}

function legend(panel, runs) {
  const box = element('div', { className: 'legend' });
  const mark = (color, dash, faint) => {
    const line = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    line.innerHTML = `<line x1="0" y1="4" x2="20" y2="4" stroke="${color}" stroke-width="2" opacity="${faint ? .45 : 1}" stroke-dasharray="${DASHES[dash ?? 'solid'].join(' ')}"/>`;
    return line;
  };
  if (runs.length > 1) for (const run of runs) box.append(element('span', {}, mark(`var(${run.color})`), run.name));
  const kinds = panel.lines ? panel.lines.filter(line => present(line, runs)) : panel.points(runs[0]).filter(p => p.label !== runs[0].name);
  const color = runs.length > 1 ? 'var(--dim)' : `var(${runs[0].color})`;
  if (kinds.length > 1 || runs.length === 1) for (const line of kinds) box.append(element('span', {}, mark(color, line.dash, line.faint), line.label));
  return box;
}

const present = (line, runs) => runs.some(run => run.series[line.key].some(x => x !== null && (!line.onlyIfAny || x > 0)));

// ---- scales --------------------------------------------------------------------------------------
const MARGIN = { left: 66, right: 12, top: 8, bottom: 24 };
function whole(panel, runs) {
  if (panel.kind === 'xy') {
    const all = runs.flatMap(run => panel.points(run).flatMap(p => p.list.map(([x]) => x)));
    return [Math.min(...all), Math.max(...all)];
  }
  return [0, Math.max(...runs.map(run => run.series.time_s.at(-1) + run.series.seconds.at(-1)), 1e-3)];
}
const isTimed = panel => panel.kind !== 'xy';
function domainX(cell) {
  return isTimed(cell.panel) && state.zoom ? state.zoom : whole(cell.panel, cell.shown);
}
function domainY(cell, [x0, x1]) {
  const { panel } = cell;
  let low = Infinity, high = -Infinity;
  const take = y => { if (y !== null && y !== undefined && (!panel.log || y > 0)) { low = Math.min(low, y); high = Math.max(high, y); } };
  for (const run of cell.shown) {
    if (panel.kind === 'xy') panel.points(run).forEach(p => p.list.forEach(([x, y]) => { if (x >= x0 && x <= x1) take(y); }));
    else run.series.time_s.forEach((t, i) => {
      if (t + run.series.seconds[i] < x0 || t > x1) return;
      if (panel.kind === 'heat') for (let k = 0; k < run.heat[i].length; k += 2) { take(2 ** (run.heat[i][k] / DATA.heatPerPower)); take(2 ** ((run.heat[i][k] + 1) / DATA.heatPerPower)); }
      else panel.lines.forEach(line => take(run.series[line.key][i]));
    });
  }
  if (low > high) [low, high] = panel.log ? [1, 10] : [0, 1];
  if (panel.log) return low === high ? [low / 2, high * 2] : panel.kind === 'heat' ? [low, high] : [low * .9, high * 1.15];
  if (panel.top !== undefined) { high = Math.max(high, low + 1e-6); const pad = Math.max((high - low) * .1, .002); return [Math.max(0, low - pad), Math.min(panel.top, high + pad)]; }
  if (panel.zero) low = 0;
  return [low, high === low ? low + 1 : high * 1.08];
}
function ticks(low, high, count, base = 10) {
  if (base === 1024 && high > 1024) {
    const unit = 1024 ** Math.floor(Math.log(high / 1.5) / Math.log(1024));
    return ticks(low / unit, high / unit, count).map(v => v * unit);
  }
  const step = 10 ** Math.floor(Math.log10((high - low) / count));
  const size = [1, 2, 5, 10].map(k => k * step).find(s => (high - low) / s <= count) ?? 10 * step;
  const list = [];
  for (let v = Math.ceil(low / size) * size; v <= high + size * 1e-9; v += size) list.push(Math.abs(v) < size * 1e-9 ? 0 : +v.toPrecision(12));
  return list;
}
function logTicks(low, high) {
  const list = [], decades = Math.log10(high / low);
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const k of decades > 3.5 ? [1] : decades > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 5, 7]) { const v = k * 10 ** power; if (v >= low && v <= high) list.push(v); }
  return list;
}

// ---- drawing -------------------------------------------------------------------------------------
function geometry(cell, width, height) {
  const [x0, x1] = domainX(cell), [y0, y1] = domainY(cell, [x0, x1]);
  const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  const place = cell.panel.log ? y => Math.log(y / y0) / Math.log(y1 / y0) : y => (y - y0) / (y1 - y0);
  return {
    x0, x1, y0, y1, inner,
    x: v => MARGIN.left + (v - x0) / (x1 - x0 || 1) * inner.w,
    y: v => MARGIN.top + inner.h - Math.max(-.02, Math.min(1.02, place(v))) * inner.h,
    at: px => x0 + (px - MARGIN.left) / inner.w * (x1 - x0),
  };
}
function draw() { cells.forEach(cell => paint(cell, cell.canvas)); }
function paint(cell, canvas, size) {
  const ratio = size?.ratio ?? (window.devicePixelRatio || 1);
  const width = size?.width ?? canvas.clientWidth, height = size?.height ?? canvas.clientHeight;
  if (!width) return;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const g = canvas.getContext('2d');
  g.scale(ratio, ratio);
  const geo = geometry(cell, width, height);
  cell.geo = geo;
  const { panel } = cell;
  g.fillStyle = css('--card'); g.fillRect(0, 0, width, height);
  g.font = '11px system-ui, sans-serif'; g.fillStyle = css('--dim'); g.strokeStyle = css('--grid'); g.lineWidth = 1;
  g.textAlign = 'right'; g.textBaseline = 'middle';
  const yTicks = panel.log ? logTicks(geo.y0, geo.y1) : ticks(geo.y0, geo.y1, 5, panel.base);
  for (const v of yTicks) {
    const y = Math.round(geo.y(v)) + .5;
    g.beginPath(); g.moveTo(MARGIN.left, y); g.lineTo(width - MARGIN.right, y); g.stroke();
    g.fillText(panel.say(v), MARGIN.left - 8, y);
  }
  g.textBaseline = 'top';
  const xs = ticks(geo.x0, geo.x1, Math.max(2, Math.floor(geo.inner.w / 90)));
  for (const v of xs) {
    const x = geo.x(v), text = panel.sayX ? panel.sayX(v) : say.seconds(v);
    const half = g.measureText(text).width / 2;
    g.textAlign = 'center';
    g.fillText(text, Math.min(Math.max(x, MARGIN.left + half), width - MARGIN.right - half), height - MARGIN.bottom + 7);
  }
  g.save();
  g.beginPath(); g.rect(MARGIN.left, MARGIN.top - 2, geo.inner.w, geo.inner.h + 4); g.clip();
  if (panel.kind === 'heat') paintHeat(g, geo, cell.runs[0]);
  else if (panel.kind === 'xy') paintPoints(g, geo, cell);
  else paintLines(g, geo, cell);
  if (panel.lines && !panel.lines.some(line => present(line, cell.runs))) {
    g.fillStyle = css('--dim'); g.textAlign = 'center'; g.textBaseline = 'middle'; g.font = '13px system-ui, sans-serif';
    g.fillText('none', MARGIN.left + geo.inner.w / 2, MARGIN.top + geo.inner.h / 2);
  }
  paintHover(g, geo, cell, height);
  g.restore();
}
function stroke(g, run, line, trace) {
  g.strokeStyle = css(run.color); g.lineWidth = line.thin ? 1.2 : 2; g.globalAlpha = line.faint ? .45 : 1;
  g.lineJoin = 'round'; g.setLineDash(DASHES[line.dash ?? 'solid']);
  g.beginPath(); trace(); g.stroke();
  g.setLineDash([]); g.globalAlpha = 1;
}
function paintLines(g, geo, cell) {
  for (const run of cell.runs) for (const line of cell.panel.lines) {
    const values = run.series[line.key];
    if (!present(line, [run])) continue;
    const middle = i => run.series.time_s[i] + run.series.seconds[i] / 2;
    stroke(g, run, line, () => {
      let pen = false;
      values.forEach((v, i) => {
        if (v === null || (cell.panel.log && v <= 0)) { pen = false; return; }
        const x = geo.x(middle(i)), y = geo.y(v);
        if (pen) g.lineTo(x, y); else { g.moveTo(x, y); g.lineTo(x + .01, y); }
        pen = true;
      });
    });
    const few = values.filter((v, i) => v !== null && middle(i) >= geo.x0 && middle(i) <= geo.x1).length <= 40;
    if (few && !line.thin) { g.fillStyle = css(run.color); values.forEach((v, i) => { if (v !== null && (!cell.panel.log || v > 0)) { g.beginPath(); g.arc(geo.x(middle(i)), geo.y(v), 2.4, 0, 7); g.fill(); } }); }
  }
}
function paintPoints(g, geo, cell) {
  for (const run of cell.runs) for (const set of cell.panel.points(run)) {
    stroke(g, run, set, () => set.list.forEach(([x, y], i) => i ? g.lineTo(geo.x(x), geo.y(y)) : g.moveTo(geo.x(x), geo.y(y))));
    if (cell.panel.marks) { g.fillStyle = css(run.color); set.list.forEach(([x, y]) => { g.beginPath(); g.arc(geo.x(x), geo.y(y), 3, 0, 7); g.fill(); }); }
  }
}
function paintHeat(g, geo, run) {
  let most = 1;
  run.heat.forEach((rows, i) => { for (let k = 1; k < rows.length; k += 2) most = Math.max(most, rows[k] / run.series.seconds[i]); });
  g.fillStyle = css(run.color);
  run.heat.forEach((rows, i) => {
    const t = run.series.time_s[i], d = run.series.seconds[i];
    const x = geo.x(t), w = Math.max(geo.x(t + d) - x, 1) + .3;
    for (let k = 0; k < rows.length; k += 2) {
      const top = geo.y(2 ** ((rows[k] + 1) / DATA.heatPerPower)), bottom = geo.y(2 ** (rows[k] / DATA.heatPerPower));
      g.globalAlpha = .08 + .92 * Math.log1p(rows[k + 1] / d) / Math.log1p(most);
      g.fillRect(x, top, w, bottom - top + .3);
    }
  });
  g.globalAlpha = 1;
}
function paintHover(g, geo, cell, height) {
  if (cell.drag) {
    g.fillStyle = css('--c0'); g.globalAlpha = .15;
    g.fillRect(Math.min(...cell.drag), MARGIN.top, Math.abs(cell.drag[1] - cell.drag[0]), geo.inner.h);
    g.globalAlpha = 1;
  }
  const at = isTimed(cell.panel) ? state.hover : cell.hoverX;
  if (at === null || at === undefined || at < geo.x0 || at > geo.x1) return;
  g.strokeStyle = css('--dim'); g.lineWidth = 1;
  g.beginPath(); g.moveTo(Math.round(geo.x(at)) + .5, MARGIN.top); g.lineTo(Math.round(geo.x(at)) + .5, height - MARGIN.bottom); g.stroke();
}

// ---- pointing ------------------------------------------------------------------------------------
const indexAt = (run, t) => { const times = run.series.time_s; let i = times.findLastIndex(x => x <= t); return i < 0 ? null : t > times[i] + run.series.seconds[i] * 1.5 ? null : i; };
function readings(cell, at, py) {
  const rows = [];
  for (const run of cell.runs) {
    const name = cell.runs.length > 1 ? `${run.name} ` : '';
    if (cell.panel.kind === 'xy') for (const set of cell.panel.points(run)) {
      const near = set.list.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      rows.push([run, set.label === run.name ? run.name : name + set.label, `${cell.panel.say(near[1])} at ${cell.panel.sayX(near[0])}`]);
    } else {
      const i = indexAt(run, at);
      if (i === null) continue;
      if (cell.panel.kind === 'heat') {
        const { geo } = cell, share = 1 - (py - MARGIN.top) / geo.inner.h;
        const row = Math.floor(Math.log2(geo.y0 * (geo.y1 / geo.y0) ** share) * DATA.heatPerPower);
        const k = run.heat[i].findIndex((v, j) => j % 2 === 0 && v === row);
        rows.push([run, `${say.time(2 ** (row / DATA.heatPerPower))} – ${say.time(2 ** ((row + 1) / DATA.heatPerPower))}`, `${say.count(k < 0 ? 0 : run.heat[i][k + 1])} replies`]);
      } else for (const line of cell.panel.lines) {
        const v = run.series[line.key][i];
        if (v !== null && present(line, [run])) rows.push([run, name + line.label, cell.panel.say(v)]);
      }
    }
  }
  return rows;
}
function listen(cell) {
  const { canvas, panel } = cell;
  const local = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const clamp = px => Math.max(MARGIN.left, Math.min(px, canvas.clientWidth - MARGIN.right));
  canvas.addEventListener('pointerdown', event => {
    if (!isTimed(panel)) return;
    canvas.setPointerCapture(event.pointerId);
    const [px] = local(event);
    cell.drag = [clamp(px), clamp(px)];
  });
  canvas.addEventListener('pointermove', event => {
    const [px, py] = local(event), at = cell.geo.at(clamp(px));
    if (cell.drag) cell.drag[1] = clamp(px);
    if (isTimed(panel)) state.hover = at; else cell.hoverX = at;
    const rows = readings(cell, at, py);
    const tip = $('tip');
    tip.hidden = !rows.length;
    const head = isTimed(panel) ? say.seconds(+at.toFixed(2)) : panel.title;
    tip.replaceChildren(element('div', { className: 'dim', textContent: head }), ...rows.map(([run, label, value]) => {
      const dot = element('i'); dot.style.background = `var(${run.color})`;
      return element('div', {}, dot, label, element('b', { textContent: value }));
    }));
    const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
    tip.style.left = `${right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16}px`;
    tip.style.top = `${Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8)}px`;
    draw();
  });
  canvas.addEventListener('pointerup', () => {
    const { drag } = cell;
    cell.drag = null;
    if (drag && Math.abs(drag[1] - drag[0]) > 6) zoom([cell.geo.at(Math.min(...drag)), cell.geo.at(Math.max(...drag))]); else draw();
  });
  canvas.addEventListener('pointerleave', () => { state.hover = null; cell.hoverX = null; $('tip').hidden = true; draw(); });
  canvas.addEventListener('dblclick', () => zoom(null));
}
function zoom(range) { state.zoom = range; $('reset').hidden = !range; draw(); }

// ---- saving --------------------------------------------------------------------------------------
function save(name, blob) {
  const link = element('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
function picture(ids) {
  const chosen = cells.filter(cell => ids.includes(cell.panel.id));
  const w = 820, h = 300, head = 30, columns = chosen.length > 1 ? 2 : 1, ratio = 2;
  const sheet = element('canvas');
  sheet.width = w * columns * ratio; sheet.height = (h + head) * Math.ceil(chosen.length / columns) * ratio;
  const g = sheet.getContext('2d');
  g.scale(ratio, ratio);
  g.fillStyle = css('--card'); g.fillRect(0, 0, sheet.width, sheet.height);
  chosen.forEach((cell, i) => {
    const x = i % columns * w, y = Math.floor(i / columns) * (h + head), part = element('canvas'), { geo } = cell;
    paint(cell, part, { width: w, height: h, ratio });
    cell.geo = geo;
    g.font = '600 14px system-ui, sans-serif'; g.textBaseline = 'middle'; g.fillStyle = css('--text');
    g.fillText(cell.panel.title, x + 14, y + 16);
    let left = x + 14 + g.measureText(cell.panel.title).width + 16;
    g.font = '12px system-ui, sans-serif';
    for (const run of cell.runs) { g.fillStyle = css(run.color); g.fillRect(left, y + 11, 10, 10); g.fillStyle = css('--dim'); g.fillText(run.name, left + 15, y + 16); left += 30 + g.measureText(run.name).width; }
    g.drawImage(part, x, y + head, w, h);
  });
  return sheet;
}
function savePicture(ids, name) { picture(ids).toBlob(blob => save(`${name}.png`, blob)); }
function table(panels) {
  const quote = text => /[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text;
  const rows = [['run', 'chart', 'curve', 'x', 'y']];
  for (const panel of panels) for (const run of visible()) {
    if (panel.when && !panel.when(run)) continue;
    if (panel.kind === 'xy') for (const set of panel.points(run)) for (const [x, y] of set.list) rows.push([run.name, panel.id, set.label, x, y]);
    else if (panel.kind === 'heat') run.heat.forEach((list, i) => { for (let k = 0; k < list.length; k += 2) rows.push([run.name, panel.id, `${Math.round(2 ** (list[k] / DATA.heatPerPower))} ns`, run.series.time_s[i], list[k + 1]]); });
    else for (const line of panel.lines) run.series[line.key].forEach((v, i) => { if (v !== null) rows.push([run.name, panel.id, line.label, run.series.time_s[i], v]); });
  }
  return rows.map(row => row.map(quote).join(',')).join('\n') + '\n';
}
function saveTable(panels, name) { save(`${name}.csv`, new Blob([table(panels)], { type: 'text/csv' })); }

// ---- words around the charts ---------------------------------------------------------------------
function verdicts() {
  const host = $('verdicts');
  host.replaceChildren();
  for (const run of visible()) for (const [key, title] of [['failures', 'Failed'], ['partial', 'Partial'], ['void', 'Void']])
    for (const line of (run.description[key] ?? '').split('\n').filter(Boolean)) {
      if (key === 'failures' && line === run.description.partial) continue;
      host.append(element('div', { className: `verdict ${key === 'failures' ? '' : 'void'}` }, element('b', { textContent: `${title}: ${run.name}` }), line));
    }
}
function cards() {
  const host = $('cards');
  host.replaceChildren();
  for (const run of visible()) {
    const { total, description } = run, card = (label, value) => element('div', { className: 'card' }, element('span', { textContent: label }), element('b', { textContent: value }));
    const hit = mean(run.series.hit_ratio), cpu = run.series.server_cpu.every(x => x !== null) ? sum(run.series.server_cpu.map((x, i) => x * run.series.seconds[i])) / total.responses * 1e9 : null;
    const box = element('div', { className: 'cards' },
      element('h2', {}, element('strong', { textContent: run.name }), ...[`${description.endpoints ?? ''} over ${description.protocol ?? ''}`, description.loop ?? '', `${description.connections ?? '?'} connections × ${description.pipeline_depth ?? '?'} in flight`].map(textContent => element('span', { textContent }))),
      card('throughput', `${say.count(total.responses / total.seconds)}/s`), card('p50', say.time(total.latency.p50)), card('p99', say.time(total.latency.p99)),
      card('p99.9', say.time(total.latency.p999)), card('max', say.time(total.latency.max)), card('hit ratio', hit === null ? '–' : say.percent(hit)),
      card('errors', say.count(Math.round(failures(run)))), ...(cpu === null ? [] : [card('server CPU a request', say.time(cpu))]));
    box.style.setProperty('--color', `var(${run.color})`);
    host.append(box);
  }
}
function grid(title, note, head, rows) {
  const body = rows.map(({ cells, className }) => element('tr', { className: className ?? '' }, ...cells.map(c => c instanceof Node ? c : element('td', { textContent: c }))));
  return element('div', { className: 'table' }, element('h3', {}, title, element('small', { textContent: note })),
    element('div', { className: 'scroll' }, element('table', {}, element('thead', {}, element('tr', {}, ...head.map(h => element('th', { textContent: h })))), element('tbody', {}, ...body))));
}
function differences() {
  const host = $('differences');
  host.replaceChildren();
  for (const { before, after, lines } of DATA.differences) {
    host.append(grid(`${before} → ${after}`, 'mean ± deviation over intervals; a difference is stated at 99 % confidence (Welch)', ['figure', before, after, 'change', 'verdict'],
      lines.map(line => ({ cells: [line.name, line.before, line.after, line.change === null ? '–' : `${line.change > 0 ? '+' : ''}${(line.change * 100).toFixed(1)} %`,
        element('td', { textContent: line.verdict, className: ['better', 'worse'].includes(line.verdict) ? line.verdict : 'dim' })] }))));
  }
}
function commands() {
  const host = $('commands');
  host.replaceChildren();
  for (const run of visible()) host.append(grid(`Commands of ${run.name}`, 'latency from the intended send time', ['command', 'replies', 'a second', 'mean', 'p50', 'p90', 'p99', 'p99.9', 'max', 'hits', 'misses', 'errors'],
    run.commands.filter(c => c.responses > 0).map(c => ({ cells: [c.name, say.count(c.responses), say.count(c.responses / run.total.seconds), ...['mean', 'p50', 'p90', 'p99', 'p999', 'max'].map(q => say.time(c.latency[q])), say.count(c.hits), say.count(c.misses), say.count(c.errors)] }))));
}
function configs() {
  const host = $('configs'), runs = visible(), skip = ['format', 'begun_unix_ns', 'failures', 'void', 'partial', 'commands_measured'];
  const keys = [...new Set(runs.flatMap(run => Object.keys(run.description)))].filter(key => !skip.includes(key)).sort();
  host.replaceChildren(grid('Configuration and machine', runs.length > 1 ? 'differing lines are marked' : '', ['key', ...runs.map(r => r.name)],
    keys.map(key => { const values = runs.map(run => run.description[key] ?? '–'); return { className: new Set(values).size > 1 ? 'differ' : '', cells: [key, ...values.map(v => element('td', { textContent: v, className: 'text' }))] }; })));
}
function all() { verdicts(); cards(); differences(); build(); commands(); configs(); }

// ---- beginning -----------------------------------------------------------------------------------
for (const run of RUNS) {
  const chip = element('button', { className: 'chip', attributes: { 'aria-pressed': 'true' } }, element('i'), run.name);
  chip.style.setProperty('--color', `var(${run.color})`);
  chip.onclick = () => {
    if (!state.hidden.delete(run.n) && visible().length > 1) state.hidden.add(run.n);
    chip.setAttribute('aria-pressed', String(!state.hidden.has(run.n)));
    all();
  };
  $('runs').append(chip);
}
if (RUNS.length > 1) for (const [layout, label] of [['overlay', 'Overlay'], ['side', 'Side by side']])
  $('layout').append(element('button', { textContent: label, attributes: { 'aria-pressed': String(layout === state.layout), 'data-layout': layout }, onclick: event => {
    state.layout = layout;
    for (const button of $('layout').children) button.setAttribute('aria-pressed', String(button === event.target));
    build();
  } }));
const setTheme = theme => { document.documentElement.dataset.theme = theme; draw(); };
$('theme').onclick = () => setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
$('reset').onclick = () => zoom(null);
$('png').onclick = () => savePicture(PANELS.map(p => p.id), 'crucible-benchmark');
$('csv').onclick = () => saveTable(PANELS, 'crucible-benchmark');
const asked = new URLSearchParams(location.hash.slice(1));
document.documentElement.dataset.theme = asked.get('theme') ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
if (asked.get('layout') === 'side' && RUNS.length > 1) { state.layout = 'side'; for (const button of $('layout').children) button.setAttribute('aria-pressed', String(button.dataset.layout === 'side')); }
document.title = `${RUNS.map(r => r.name).join(' · ')} – crucible-benchmark`;
all();
new ResizeObserver(draw).observe($('panels'));
