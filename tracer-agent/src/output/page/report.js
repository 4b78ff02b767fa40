// The report: what was lost and what it has in common, as `rstrace report` says it.

const INSTANCES = 6;

function grid(heads, rows) {
  const head = node('tr', '', ...heads.map((text) => node('th', '', text)));
  head.querySelectorAll('th').forEach((th) => { th.scope = 'col'; });
  // On a narrow screen each cell says what it is.
  for (const tr of rows) [...tr.children].forEach((td, i) => { td.dataset.head = heads[i]; });
  return node('table', '', node('thead', '', head), node('tbody', '', ...rows));
}
const row = (...cells) => node('tr', '', ...cells.map((cell) => (cell instanceof Node ? cell : node('td', '', cell))));
const part = (title, ...children) => [node('h3', '', title), ...children];

// Backquotes and links of Markdown say nothing here.
const plain = (text) => text.replaceAll('`', '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('**', '');
const from = (time, now) => (time ? moment(Date.parse(time), now) : '–');

function age(view) {
  return view ? 'after ' + (view.age_ms >= 1000 ? +(view.age_ms / 1000).toFixed(1) + ' s' : Math.round(view.age_ms) + ' ms') : null;
}

class Report {
  constructor(panel, embedded) {
    this.panel = panel;
    this.embedded = embedded;
    this.asked = 0;
  }

  async load(query) {
    if (this.embedded) {
      if (this.embedded.report) this.show(this.embedded.report);
      else this.say('there is no report in this file');
      return;
    }
    const asked = ++this.asked;
    if (!this.panel.hasChildNodes()) this.say('…');
    try {
      const answer = await fetch('/api/report?' + query);
      const text = await answer.text();
      if (asked !== this.asked) return;
      if (answer.ok) this.show(JSON.parse(text));
      else this.say(text.trim());
    } catch {
      if (asked === this.asked) this.say('the agent does not answer');
    }
  }

  say(text) {
    this.panel.replaceChildren(node('p', 'quiet', text));
  }

  show(report) {
    const now = Date.parse(report.time);
    const children = [node('h2', '', report.headline), this.covered(report, now)];
    if (report.timeline.losses.length) children.push(...this.timeline(report.timeline, now));
    if (report.findings.length) children.push(...part('In common', node('ul', '', ...report.findings.map((f) => node('li', '', plain(f))))));
    if (report.groups.length) children.push(...this.groups(report, now));
    if (report.stale.length) children.push(...this.stale(report.stale, now));
    if (report.programs.length) children.push(...this.programs(report.programs, now));
    const learned = report.learned.filter((u) => u.upstream_timeout || u.gateway_timeouts.length || u.idle_limit_ms !== null);
    if (learned.length) children.push(...this.learned(learned));
    if (report.next.length) {
      const list = node('dl', '');
      for (const next of report.next) list.append(node('dt', '', next.cause + ' (' + count(next.losses) + ')'), node('dd', '', plain(next.advice)));
      children.push(...part('What to do', list));
    }
    this.panel.replaceChildren(...children);
  }

  covered({ span: s, host }, now) {
    const missing = s.covered_since ? 'complete since ' + from(s.covered_since, now) : null;
    const forgotten = s.forgotten ? count(s.forgotten) + ' older verdicts were forgotten' : null;
    return node('p', 'quiet', [host, 'made ' + moment(now, 0), missing, forgotten].filter(Boolean).join(' · '));
  }

  timeline(timeline, now) {
    const svg = document.createElementNS(SVG, 'svg');
    const peak = Math.max(...timeline.losses);
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', 'Losses over time, at most ' + peak + ' in ' + timeline.seconds + ' s');
    drawBars(svg, timeline.losses, peak);
    const start = Date.parse(timeline.from);
    const end = start + timeline.seconds * 1000 * timeline.losses.length;
    return [svg, node('figcaption', '', node('span', '', moment(start, now)), node('span', '', moment(end, now)))];
  }

  groups(report, now) {
    const rows = report.groups.map((g) => {
      const name = node('td', 'name', g.upstream ?? (g.listener ?? 'unknown') + ' (served here)');
      if (g.upstream_name) name.append(node('span', 'and', g.upstream_name));
      if (g.scope !== 'host') name.append(node('div', 'quiet', printable(g.scope)));
      const who = g.culprits.map((c) => [c.comm, c.ended ?? '', c.processes > 1 ? c.processes + ' times' : ''].filter(Boolean).join(', '));
      const why = node('td', '', g.example);
      if (who.length) why.append(node('div', 'quiet', who.join('; ')));
      const cause = node('td', '', g.cause, node('div', 'quiet', 'by ' + g.by));
      return row(node('td', 'losses', count(g.losses)), name, cause, why, from(g.first, now), from(g.last, now));
    });
    const table = grid(['lost', 'upstream', 'cause', 'the last one', 'first', 'last'], rows);
    const others = report.others.losses ? node('p', 'quiet', plural(report.others.losses, 'more is', 'more are') + ' not listed') : '';
    return part('By upstream and cause', table, others);
  }

  stale(stale, now) {
    const say = ({ listener: l }) => {
      if (!l) return 'no listener is known there';
      const who = l.process ? process(l.process) : 'somebody';
      if (l.listening) return who + ' listens there again';
      return 'nothing listens there since ' + from(l.ceased, now) + '; ' + who + ' did';
    };
    const registered = ({ registration: r }) => (r ? node('div', 'quiet', (r.name ? r.name + ' ' : '') + 'in ' + r.file + (r.line ? ':' + r.line : '')) : '');
    const rows = stale.map((s) => row(node('td', 'name', s.upstream, registered(s)), node('td', 'losses', count(s.losses)), say(s), from(s.first, now), from(s.last, now)));
    return part('Registered, and refuses', grid(['upstream', 'refused', 'who listens', 'first', 'last'], rows));
  }

  programs(programs, now) {
    const rows = programs.map((p) => {
      const latest = p.latest.slice(-INSTANCES).map((i) => node('div', '', i.pid + '  started ' + from(i.started, now) + (i.ended ? ', ' + i.ended + ' about ' + from(i.seen, now) : '')));
      const name = node('td', 'name', p.comm, node('div', 'quiet', p.part === 'owner' ? 'held the connections' : 'ended them'));
      if (p.container) name.append(node('div', 'quiet', 'container ' + printable(p.container.slice(0, 12))));
      return row(name, count(p.processes), count(p.ended), count(p.restarts), node('td', '', ...latest));
    });
    return part('Processes', grid(['program', 'processes', 'ended', 'restarts', 'the last ones'], rows));
  }

  learned(upstreams) {
    const rows = upstreams.map((u) => row(node('td', 'name', u.upstream), age(u.upstream_timeout) ?? '–',
      u.gateway_timeouts.map(age).join(', ') || '–', u.idle_limit_ms === null ? '–' : age({ age_ms: u.idle_limit_ms })));
    return part('Learned timeouts', grid(['upstream', 'it gives up', 'the gateway gives up', 'it closes idle connections'], rows));
  }
}
