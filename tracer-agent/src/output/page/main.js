// Where the verdicts come from, and when what is drawn. With an agent: its events. Without: what is embedded.

const FRAME_MS = 250;
// Drawing takes at most one part in so many of the time: the verdicts have to be read as well.
const DRAWING = 4;
const DEFAULT_BIN_MS = 5000;
const RETRY_MS = 2000;

const embedded = $('data') ? JSON.parse($('data').textContent) : null;
const clockNow = () => (embedded ? page.model.last || Date.now() : Date.now());
const page = {
  filters: {}, model: new Model(DEFAULT_BIN_MS), paused: false, drawn: 0, cost: 0, omitted: 0, why: '',
  state: 'connecting', source: null, tab: 'upstreams',
};

// === what was asked for ===

function readFilters() {
  const query = new URLSearchParams(location.search);
  query.delete('token');
  const given = NAMES.some((name) => query.has(name));
  for (const name of NAMES) page.filters[name] = query.get(name) ?? (name === 'since' && !embedded && !given ? '15m' : '');
  // The token is a cookie by now; it need not stand in the address bar or be copied with it.
  if (!embedded) history.replaceState(null, '', address());
  for (const input of inputs()) input.value = page.filters[input.name];
  markFilters();
}

const inputs = () => $('filters').querySelectorAll('input');

function asQuery() {
  const query = new URLSearchParams();
  for (const name of NAMES) if (page.filters[name]) query.set(name, page.filters[name]);
  return query.toString();
}
const address = () => location.pathname + '?' + asQuery() + (location.hash || '');

function markFilters() {
  for (const input of inputs()) input.parentElement.classList.toggle('set', input.value !== '');
  const tool = page.tab === 'report' ? 'report' : 'watch';
  setText($('command'), 'rstrace ' + tool + asOptions(page.filters));
}

function applyFilters() {
  let changed = false;
  for (const input of inputs()) {
    const value = input.value.trim();
    changed = changed || page.filters[input.name] !== value;
    page.filters[input.name] = value;
  }
  if (!changed) return;
  markFilters();
  if (!embedded) history.replaceState(null, '', address());
  start();
}

// === verdicts ===

function begin() {
  const ms = duration(page.filters.since || '') ?? 0;
  const given = Date.parse(page.filters.since || '');
  const wide = ms || (Number.isNaN(given) ? 0 : Date.now() - given);
  page.model = new Model(Math.max(DEFAULT_BIN_MS, Math.ceil(wide / BINS / 1000) * 1000));
  page.omitted = 0;
  table.clear();
  detail.open(detail.name);
}

function trouble(text) {
  setText($('trouble'), text);
  $('trouble').hidden = !text;
}

function takeLine(text) {
  const line = JSON.parse(text);
  if (line.kind === 'verdict') {
    line.at = Date.parse(line.time);
    page.model.take(line, Date.now());
  } else if (line.kind === 'ready') {
    begin();
    trouble('');
    setText($('host'), line.host);
    document.title = line.host + ' – rstrace';
  } else if (line.kind === 'omitted') {
    page.omitted += line.count;
    page.why = line.why;
  } else if (line.kind === 'error') {
    trouble(line.error);
  }
}

function connect() {
  if (page.source) page.source.close();
  clearTimeout(page.retry);
  const source = new EventSource('/api/events?' + asQuery());
  page.source = source;
  setState('connecting');
  source.onopen = () => setState('live');
  source.onmessage = (event) => {
    for (const text of event.data.split('\n')) takeLine(text);
      schedule();
  };
  source.onerror = () => {
    if (page.source !== source) return;
    setState('lagging');
    if (source.readyState === EventSource.CLOSED) explain(source);
  };
}

// The browser does not say why it was refused.
async function explain(source) {
  const abort = new AbortController();
  try {
    const answer = await fetch('/api/events?' + asQuery(), { signal: abort.signal });
    if (page.source !== source) return;
    if (!answer.ok) trouble((await answer.text()).trim());
    // What was typed is wrong until it is changed; anything else may pass.
    if (answer.status === 400) return;
  } catch {
    trouble('the agent does not answer');
  } finally {
    abort.abort();
  }
  if (page.source === source) page.retry = setTimeout(connect, RETRY_MS);
}

function readEmbedded() {
  trouble('');
  try {
    const latest = embedded.verdicts.reduce((max, v) => Math.max(max, v.at), 0);
    const holds = predicate(page.filters, latest);
    const wanted = embedded.verdicts.filter(holds);
    const first = wanted.reduce((min, v) => Math.min(min, v.at), Infinity);
    page.model = new Model(Math.max(1000, Math.ceil((latest - first + 1000) / (BINS - 1) / 1000) * 1000 || 1000));
    for (const verdict of wanted) page.model.take(verdict, latest);
    table.clear();
    detail.open(detail.name);
  } catch (error) {
    trouble(error.message);
  }
  schedule();
}

function start() {
  if (embedded) readEmbedded();
  else connect();
  if (page.tab === 'report') report.load(asQuery());
}

// === drawing ===

function setState(state) {
  page.state = state;
  schedule();
}

function schedule() {
  if (page.frame) return;
  page.frame = true;
  const wait = Math.max(0, Math.max(FRAME_MS, DRAWING * page.cost) - (performance.now() - page.drawn));
  setTimeout(() => requestAnimationFrame(draw), wait);
}

const words = {
  live: !embedded,
  last: (ms, now) => (embedded ? moment(ms, now) : ago(ms, now)),
};

function drawState() {
  const state = $('state');
  const late = page.omitted ? ' · ' + plural(page.omitted, 'verdict', 'verdicts') + ' left out: ' + page.why : '';
  const text = embedded ? 'kept on ' + moment(page.model.last || Date.now(), 0)
    : { connecting: 'connecting…', live: 'live', lagging: 'no connection, trying again…' }[page.state];
  setText(state, (page.paused ? 'paused' : text) + late);
  state.className = page.paused ? 'lagging' : page.state === 'lagging' ? 'lagging' : page.state === 'live' ? 'live' : '';
}

function drawOverview(now) {
  const model = page.model;
  const sum = $('sum');
  const text = JSON.stringify([model.lost, model.unsure, model.upstreams.size, model.first, ago(model.last, now)]);
  if (sum.shown !== text) {
    sum.shown = text;
    sum.replaceChildren();
    if (model.taken) {
      const since = ' since ' + moment(model.first, now) + (embedded || model.taken === 1 ? '' : ', the last one ' + (now - model.last < 1500 ? 'just now' : ago(model.last, now)));
      const at = ' at ' + plural(model.upstreams.size, 'upstream', 'upstreams');
      sum.append(node('strong', model.lost ? 'lost' : '', plural(model.lost, 'request', 'requests')), ' lost' + at + since);
      if (model.unsure) sum.append(node('span', 'quiet', ' · ' + count(model.unsure) + ' more that may be'));
    } else {
      sum.append(node('span', 'quiet', page.state === 'connecting' && !embedded ? 'Connecting…' : 'No request was lost'
        + (page.filters.since ? ' since ' + page.filters.since + (duration(page.filters.since) ? ' ago' : '') : ' since this page was opened')));
    }
  }
  const values = model.total.values(now);
  drawBars($('timeline'), values, Math.max(...values));
  $('timeline').setAttribute('aria-label', 'Broken connections over time, at most ' + Math.max(...values) + ' in ' + span(model.binMs));
  setText($('from'), moment((model.total.newest - BINS + 1) * model.binMs, now));
  setText($('to'), embedded ? moment(now, now) : 'now');
  setText($('spark-head'), 'last ' + span(model.binMs * BINS));
}

function draw() {
  page.frame = false;
  page.drawn = performance.now();
  // It runs when the layout is done too.
  setTimeout(() => { page.cost = performance.now() - page.drawn; });
  drawState();
  if (page.paused || page.tab !== 'upstreams') return;
  const now = clockNow();
  drawOverview(now);
  const more = table.render(page.model, now, words, detail.name);
  detail.render(page.model, now, words);
  const hidden = [more ? plural(more, 'more upstream', 'more upstreams') : '', page.model.elsewhere
    ? plural(page.model.elsewhere, 'verdict', 'verdicts') + ' of upstreams beyond ' + count(UPSTREAMS) : ''].filter(Boolean);
  setText($('more'), hidden.length ? hidden.join(', ') + ': a filter brings them up' : '');
  $('more').hidden = !hidden.length;
}

// === what is done ===

function openUpstream(name) {
  detail.open(name);
  document.querySelector('main').classList.toggle('open', name !== null);
  schedule();
  if (name === null) table.focus();
  else if (matchMedia('(max-width: 1080px)').matches) $('detail').focus();
}

function pause(on) {
  page.paused = on;
  $('pause').setAttribute('aria-pressed', String(on));
  setText($('pause'), on ? 'Resume' : 'Pause');
  schedule();
}

function show(tab) {
  page.tab = tab;
  $('upstreams').hidden = tab !== 'upstreams';
  $('detail').hidden = tab !== 'upstreams' || detail.name === null;
  $('report').hidden = tab !== 'report';
  // A report that is kept was made with the filters of its time.
  $('filters').hidden = Boolean(embedded) && tab === 'report';
  $('show-upstreams').setAttribute('aria-pressed', String(tab === 'upstreams'));
  $('show-report').setAttribute('aria-pressed', String(tab === 'report'));
  markFilters();
  if (tab === 'report') report.load(asQuery());
  schedule();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === 'Escape') {
    if (typing) event.target.blur();
    else if (page.tab === 'report') show('upstreams');
    else if (detail.name !== null) openUpstream(null);
    return;
  }
  if (typing) {
    if (event.key === 'Enter') applyFilters();
    return;
  }
  const act = {
    '/': () => { $('first-filter').focus(); $('first-filter').select(); },
    p: () => pause(!page.paused),
    r: () => show(page.tab === 'report' ? 'upstreams' : 'report'),
    ArrowDown: () => table.focus(), ArrowUp: () => table.focus(),
  }[event.key];
  const scrolls = event.key.startsWith('Arrow') && (page.tab === 'report' || $('detail').contains(event.target));
  if (!act || scrolls || event.defaultPrevented) return;
  event.preventDefault();
  act();
}

function sortBy(key) {
  table.sort = key;
  for (const button of document.querySelectorAll('th button')) {
    const th = button.parentElement;
    if (button.dataset.sort === key) th.setAttribute('aria-sort', key === 'name' ? 'ascending' : 'descending');
    else th.removeAttribute('aria-sort');
  }
  schedule();
}

const table = new Table($('rows'), (name) => openUpstream(name === detail.name ? null : name));
const detail = new Detail($('detail'), () => openUpstream(null));
const report = new Report($('report'), embedded);

for (const [name, list] of Object.entries(WORDS)) {
  for (const word of list) $(name + '-words').append(new Option(word, word));
}
let typed;
for (const input of inputs()) {
  input.addEventListener('input', () => { clearTimeout(typed); typed = setTimeout(applyFilters, 500); });
  input.addEventListener('change', applyFilters);
}
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => sortBy(button.dataset.sort));
$('clear').addEventListener('click', () => { for (const input of inputs()) input.value = ''; applyFilters(); });
$('pause').addEventListener('click', () => pause(!page.paused));
$('pause').hidden = Boolean(embedded);
$('show-upstreams').addEventListener('click', () => show('upstreams'));
$('show-report').addEventListener('click', () => show('report'));
document.addEventListener('keydown', onKey);
if (embedded) {
  document.querySelector('#upstreams table').classList.add('kept');
  for (const verdict of embedded.verdicts) verdict.at = Date.parse(verdict.time);
  setText($('host'), embedded.report?.host ?? embedded.verdicts[0]?.host ?? '');
}
sortBy('lost');
readFilters();
start();
if (embedded?.report) show('report');
if (!embedded) setInterval(schedule, 1000);
