// The table of upstreams: rows are kept and changed in place, so that focus and selection stay where they are.

const ROWS = 200;
const SVG = 'http://www.w3.org/2000/svg';

// Bars over the whole width, the highest as high as the picture.
function drawBars(svg, values, peak) {
  const shape = values.map((value, i) => {
    const height = peak ? Math.max(value ? 0.6 : 0, (value / peak) * 20) : 0;
    return height ? 'M' + i * 4 + ' 20v-' + height.toFixed(2) + 'h3v' + height.toFixed(2) + 'z' : '';
  }).join('');
  let path = svg.firstChild;
  if (!path) {
    svg.setAttribute('viewBox', '0 0 ' + values.length * 4 + ' 20');
    svg.setAttribute('preserveAspectRatio', 'none');
    path = svg.appendChild(document.createElementNS(SVG, 'path'));
  }
  if (path.getAttribute('d') !== shape) path.setAttribute('d', shape);
}

class Table {
  constructor(body, onOpen) {
    this.body = body;
    this.onOpen = onOpen;
    this.rows = new Map();
    this.sort = 'lost';
    this.focused = null;
    body.addEventListener('click', (event) => {
      const row = event.target.closest('tr');
      if (row) this.choose(row);
    });
    body.addEventListener('keydown', (event) => this.key(event));
    body.addEventListener('focusin', (event) => this.settle(event.target.closest('tr')));
  }

  clear() {
    this.rows.clear();
    this.body.replaceChildren();
    this.focused = null;
  }

  choose(row) {
    this.settle(row);
    this.onOpen(row.upstream);
  }

  // One row takes part in the order of Tab; the arrow keys move it.
  settle(row) {
    if (!row || this.focused === row) return;
    if (this.focused) this.focused.tabIndex = -1;
    row.tabIndex = 0;
    this.focused = row;
  }

  focus() {
    const row = this.focused || this.body.firstElementChild;
    if (row) {
      this.settle(row);
      row.focus();
    }
  }

  key(event) {
    const row = event.target.closest('tr');
    if (!row) return;
    const next = {
      ArrowDown: () => row.nextElementSibling, ArrowUp: () => row.previousElementSibling,
      Home: () => this.body.firstElementChild, End: () => this.body.lastElementChild,
    }[event.key];
    if (next) {
      event.preventDefault();
      const target = next();
      if (target) target.focus();
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.choose(row);
    }
  }

  // Gives how many upstreams have no row.
  render(model, now, words, opened) {
    const order = model.sorted(this.sort, now);
    const shown = order.slice(0, ROWS);
    const keep = new Set(shown.map((u) => u.name));
    for (const [name, row] of this.rows) {
      if (keep.has(name)) continue;
      row.remove();
      this.rows.delete(name);
      if (this.focused === row) this.focused = null;
    }
    let place = this.body.firstElementChild;
    for (const upstream of shown) {
      let row = this.rows.get(upstream.name);
      if (!row) {
        row = this.newRow(upstream);
        this.rows.set(upstream.name, row);
      }
      this.fill(row, now, words, opened);
      if (row === place) place = place.nextElementSibling;
      else this.move(row, place);
    }
    if (!this.focused && this.body.firstElementChild) this.settle(this.body.firstElementChild);
    return order.length - shown.length;
  }

  move(row, before) {
    // Moving an element takes the focus from it.
    const focused = document.activeElement === row;
    this.body.insertBefore(row, before);
    if (focused) row.focus({ preventScroll: true });
  }

  newRow(upstream) {
    const row = node('tr');
    row.tabIndex = -1;
    row.upstream = upstream.name;
    row.from = upstream;
    const cell = (name) => row.appendChild(node('td', name));
    row.parts = {
      name: cell('name'), lost: cell('number lost'), rate: cell('number rate'), spark: cell('spark'), by: cell('by'),
      cause: cell('cause'), last: cell('last'),
    };
    row.called = null;
    row.parts.name.append(printable(upstream.name));
    row.parts.name.title = printable(upstream.name);
    row.spark = row.parts.spark.appendChild(document.createElementNS(SVG, 'svg'));
    row.spark.setAttribute('aria-hidden', 'true');
    return row;
  }

  fill(row, now, words, opened) {
    const upstream = row.from;
    const cells = row.parts;
    const selected = String(opened === upstream.name);
    if (row.getAttribute('aria-selected') !== selected) row.setAttribute('aria-selected', selected);
    setText(cells.last, words.last(upstream.last, now));
    const perMinute = words.live ? upstream.recent.sum(now) : 0;
    setText(cells.rate, words.live ? rate(perMinute) : '');
    cells.rate.classList.toggle('none', perMinute === 0);
    const bin = Math.floor(now / upstream.bins.binMs);
    if (row.changes === upstream.changes && row.bin === bin) return;
    row.changes = upstream.changes;
    row.bin = bin;
    if (row.called !== upstream.called) this.call(row, upstream);
    setText(cells.lost, upstream.lost || !upstream.unsure ? count(upstream.lost) : count(upstream.unsure) + '?');
    cells.lost.classList.toggle('none', upstream.lost === 0);
    cells.lost.title = upstream.unsure ? plural(upstream.unsure, 'more may be lost', 'more may be lost') : '';
    const values = upstream.bins.values(now);
    drawBars(row.spark, values, Math.max(...values));
    this.several(cells.by, upstream.by);
    this.several(cells.cause, upstream.causes);
  }

  // The name that the gateway gives it, beside its address.
  call(row, upstream) {
    row.called = upstream.called;
    row.parts.name.title = printable(upstream.name + ' ' + upstream.called);
    row.parts.name.replaceChildren(printable(upstream.name), node('span', 'and', upstream.called));
  }

  // The most frequent word, and how many others there are.
  several(cell, map) {
    const words = ranked(map);
    const key = words.map(([word]) => word).join(' ');
    cell.title = words.map(([word, n]) => word + ' ' + count(n)).join('\n');
    if (cell.shown === key) return;
    cell.shown = key;
    cell.replaceChildren(printable(words[0][0]));
    if (words.length > 1) cell.append(node('span', 'and', '+' + (words.length - 1)));
  }
}
