// One upstream: what its verdicts have in common, and the last of them with their evidence.

const SHOWN = 20;

function process(p) {
  return p ? p.comm + '[' + p.pid + ']' : null;
}

function ended(exit) {
  if (!exit) return null;
  if (exit.oom) return 'killed for memory';
  if (exit.signal) return exit.signal;
  return exit.code === null ? null : 'exit code ' + exit.code;
}

function bars(map, total) {
  const grid = node('div', 'bars');
  for (const [word, n] of ranked(map).slice(0, 8)) {
    const meter = node('meter');
    meter.max = total;
    meter.value = n;
    meter.setAttribute('aria-label', word);
    grid.append(node('span', 'mono', word), meter, node('span', '', count(n)));
  }
  return grid;
}

function verdictArticle(v, now) {
  const impact = node('span', LOST.has(v.impact) ? 'impact' : 'impact soft', v.impact);
  const head = node('p', 'head', node('time', 'mono', moment(v.at, now) + v.time.slice(19, 23)), node('span', '', v.by),
    node('strong', 'mono', v.cause), impact, node('span', '', v.confidence));
  const article = node('article', '', head, node('p', 'summary', v.summary));
  if (v.evidence.length) article.append(node('ul', '', ...v.evidence.map((line) => node('li', '', line))));
  const culprit = v.culprit && [process(v.culprit), ended(v.culprit.exit), v.culprit.killed_by && 'by ' + process(v.culprit.killed_by)];
  const fields = [
    v.alternatives.length && 'or ' + v.alternatives.join(', '),
    v.owner && 'owner ' + process(v.owner),
    culprit && 'culprit ' + culprit.filter(Boolean).join(' '),
    v.owner && v.owner.container && 'container ' + v.owner.container.slice(0, 12),
    v.owner && podOf(v.owner),
    v.culprit && podOf(v.culprit),
    v.local && 'from ' + v.local,
    v.upstream_name && 'configured as ' + v.upstream_name,
    v.registration && v.registration.file && 'in ' + v.registration.file + (v.registration.line ? ':' + v.registration.line : ''),
    v.connection.cookie && 'cookie ' + v.connection.cookie,
  ].filter(Boolean);
  article.append(node('p', 'fields', fields.join(' · ')));
  return article;
}

function podOf(p) {
  if (!p.pod || !p.pod.name) return null;
  return p.comm + ' of pod ' + p.pod.namespace + '/' + p.pod.name + (p.pod.workload ? ' (' + p.pod.workload + ')' : '');
}

class Detail {
  constructor(panel, onClose) {
    this.panel = panel;
    this.onClose = onClose;
    this.name = null;
    this.drawn = -1;
    this.at = 0;
  }

  open(name) {
    this.name = name;
    this.drawn = -1;
    this.at = 0;
    this.panel.hidden = name === null;
    this.panel.scrollTop = 0;
  }

  // Whoever reads or copies is not disturbed: a new verdict waits until the pointer has left.
  render(model, now, words) {
    const upstream = this.name === null ? null : model.upstreams.get(this.name);
    if (this.name === null) return;
    if (!upstream) {
      if (this.drawn !== -2) this.panel.replaceChildren(this.top(this.name), node('p', 'quiet', 'nothing of it is among what is shown'));
      this.drawn = -2;
      return;
    }
    const read = this.panel.matches(':hover') || this.panel.contains(document.getSelection()?.anchorNode) && !document.getSelection().isCollapsed;
    if (this.drawn === upstream.changes || (this.drawn >= 0 && (read || Date.now() - this.at < 1000))) return;
    this.drawn = upstream.changes;
    this.at = Date.now();
    const focused = this.panel.contains(document.activeElement) ? document.activeElement.id : null;
    const total = upstream.lost + upstream.unsure;
    const sentence = [plural(upstream.lost, 'request lost', 'requests lost'), upstream.unsure ? count(upstream.unsure) + ' more that may be' : null,
      'first ' + moment(upstream.first, now), 'last ' + moment(upstream.last, now)].filter(Boolean).join(' · ');
    const latest = upstream.latest();
    this.panel.replaceChildren(this.top(upstream.name), node('p', 'quiet', sentence), bars(upstream.causes, total),
      ...latest.slice(0, SHOWN).map((v) => verdictArticle(v, now)));
    if (total > SHOWN) this.panel.append(node('p', 'quiet', 'The last ' + Math.min(SHOWN, latest.length) + ' of ' + count(total) + '. In a shell: rstrace watch' + asOptions({ since: '1h', upstream: upstream.name })));
    if (focused === 'close') $('close').focus();
  }

  top(name) {
    const close = node('button', '', 'Close');
    close.type = 'button';
    close.id = 'close';
    close.title = 'Close (Esc)';
    close.addEventListener('click', this.onClose);
    return node('div', 'top', node('h2', '', name), close);
  }
}
