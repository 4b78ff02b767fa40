// What is known of the upstreams: counts, a history in bins, the last verdicts. All of it is bounded.

const BINS = 60;
const RECENT_MS = 5000;
const RECENT = 12;
const VERDICTS = 50;
const UPSTREAMS = 1000;
const KINDS = 40;

// Counts by time, of the last so many bins.
class Ring {
  constructor(bins, binMs) {
    this.binMs = binMs;
    this.counts = new Uint32Array(bins);
    this.newest = 0;
  }

  add(at, now) {
    this.advance(now);
    const age = this.newest - Math.floor(at / this.binMs);
    if (age >= 0 && age < this.counts.length) this.counts[(this.newest - age) % this.counts.length] += 1;
  }

  advance(now) {
    const newest = Math.floor(now / this.binMs);
    const steps = Math.min(newest - this.newest, this.counts.length);
    for (let i = 0; i < steps; i++) this.counts[(newest - i) % this.counts.length] = 0;
    if (steps > 0) this.newest = newest;
  }

  // Oldest first.
  values(now) {
    this.advance(now);
    const n = this.counts.length;
    return Array.from({ length: n }, (_, i) => this.counts[(this.newest + 1 + i) % n]);
  }

  sum(now) {
    this.advance(now);
    return this.counts.reduce((a, b) => a + b, 0);
  }
}

class Upstream {
  constructor(name, binMs) {
    this.name = name;
    // What a gateway's configuration calls it.
    this.called = null;
    this.lost = 0;
    this.unsure = 0;
    this.by = new Map();
    this.causes = new Map();
    this.last = 0;
    this.first = Infinity;
    this.bins = new Ring(BINS, binMs);
    this.recent = new Ring(RECENT, RECENT_MS);
    this.verdicts = [];
    this.changes = 0;
  }

  take(verdict, now) {
    if (LOST.has(verdict.impact)) this.lost += 1;
    else this.unsure += 1;
    bump(this.by, verdict.by);
    bump(this.causes, verdict.cause);
    this.last = Math.max(this.last, verdict.at);
    this.first = Math.min(this.first, verdict.at);
    this.bins.add(verdict.at, now);
    this.recent.add(verdict.at, now);
    // Told nearly in the order of their times; the last ones told are kept.
    this.verdicts.push(verdict);
    if (this.verdicts.length > 2 * VERDICTS) this.verdicts.splice(0, VERDICTS);
    this.called = verdict.upstream_name ?? this.called;
    this.changes += 1;
  }

  // Newest first.
  latest() {
    return this.verdicts.slice(-VERDICTS).sort((a, b) => b.at - a.at);
  }
}

function bump(map, key) {
  if (map.size < KINDS || map.has(key)) map.set(key, (map.get(key) || 0) + 1);
}

// The most frequent first.
const ranked = (map) => [...map].sort((a, b) => b[1] - a[1]);

class Model {
  constructor(binMs) {
    this.binMs = binMs;
    this.upstreams = new Map();
    this.total = new Ring(BINS, binMs);
    this.lost = 0;
    this.unsure = 0;
    this.first = Infinity;
    this.last = 0;
    this.taken = 0;
    // Verdicts of upstreams that found no place.
    this.elsewhere = 0;
  }

  take(verdict, now) {
    const name = verdict.upstream ?? (verdict.listener === null ? 'unknown' : verdict.listener + ' (served here)');
    this.taken += 1;
    if (LOST.has(verdict.impact)) this.lost += 1;
    else this.unsure += 1;
    this.first = Math.min(this.first, verdict.at);
    this.last = Math.max(this.last, verdict.at);
    this.total.add(verdict.at, now);
    let upstream = this.upstreams.get(name);
    if (!upstream) {
      if (this.upstreams.size >= UPSTREAMS) {
        this.elsewhere += 1;
        return;
      }
      upstream = new Upstream(name, this.binMs);
      this.upstreams.set(name, upstream);
    }
    upstream.take(verdict, now);
  }

  sorted(key, now) {
    const list = [...this.upstreams.values()];
    const byName = (a, b) => (a.name < b.name ? -1 : 1);
    const byLost = (a, b) => b.lost - a.lost || b.unsure - a.unsure || b.last - a.last || byName(a, b);
    if (key === 'name') return list.sort(byName);
    if (key === 'last') return list.sort((a, b) => b.last - a.last || byLost(a, b));
    if (key === 'rate') {
      const rates = new Map(list.map((u) => [u, u.recent.sum(now)]));
      return list.sort((a, b) => rates.get(b) - rates.get(a) || byLost(a, b));
    }
    return list.sort(byLost);
  }
}
