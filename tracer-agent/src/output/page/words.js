// Words and figures: what is typed, what is shown.

const NAMES = ['upstream', 'by', 'cause', 'impact', 'process', 'container', 'pod', 'since'];
const LOST = new Set(['connect_failed', 'request_lost', 'response_truncated']);
const WORDS = {
  by: ['upstream', 'gateway', 'client', 'firewall', 'network', 'operator', 'unknown'],
  impact: ['connect_failed', 'request_lost', 'response_truncated', 'unknown'],
  since: ['5m', '15m', '1h', '6h', '24h'],
};

const $ = (id) => document.getElementById(id);

// Processes choose their names: what reorders or hides text is spelled out.
const HOSTILE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const printable = (text) =>
  String(text).replace(HOSTILE, (c) => '\\u{' + c.charCodeAt(0).toString(16) + '}');

// An element with text and elements in it. Text is only ever set as text.
function node(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const child of children) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : document.createTextNode(printable(child)));
  }
  return element;
}

function setText(element, text) {
  const shown = printable(text);
  if (element.textContent !== shown) element.textContent = shown;
}

const number = new Intl.NumberFormat('en-US');
const count = (n) => number.format(n);
const plural = (n, one, many) => count(n) + ' ' + (n === 1 ? one : many);

const twoDigits = (n) => String(n).padStart(2, '0');
function clock(ms) {
  const t = new Date(ms);
  return [t.getHours(), t.getMinutes(), t.getSeconds()].map(twoDigits).join(':');
}
function day(ms) {
  const t = new Date(ms);
  return t.getFullYear() + '-' + twoDigits(t.getMonth() + 1) + '-' + twoDigits(t.getDate());
}
const moment = (ms, now) => (day(ms) === day(now) ? '' : day(ms) + ' ') + clock(ms);

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return s + ' s';
  if (s < 6000) return Math.round(s / 60) + ' min';
  return Math.round(s / 3600) + ' h';
}
const ago = (ms, now) => (now - ms < 1500 ? 'now' : now - ms < 86400000 ? span(now - ms) + ' ago' : moment(ms, now));

// Of so many within a minute.
function rate(perMinute) {
  if (perMinute === 0) return '–';
  if (perMinute < 60) return perMinute + '/min';
  const perSecond = perMinute / 60;
  return (perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond))) + '/s';
}

// What "15m" or "1h30m" is in milliseconds; null of anything else.
function duration(text) {
  if (!/^(\d+[smhd])+$/.test(text)) return null;
  let ms = 0;
  for (const [, n, unit] of text.matchAll(/(\d+)([smhd])/g)) ms += n * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[unit];
  return ms;
}

// Without an agent the page filters itself, by the same words. Gives a predicate, or throws one line.
function predicate(filters, latest) {
  const list = (name) => (filters[name] || '').split(',').map((w) => w.trim()).filter(Boolean);
  const tests = [];
  for (const name of ['by', 'cause', 'impact']) {
    const words = list(name);
    if (words.length) tests.push((v) => words.includes(v[name]));
  }
  const processes = list('process');
  const named = (p) => p && (processes.includes(p.comm) || processes.includes(String(p.pid)));
  if (processes.length) tests.push((v) => named(v.owner) || named(v.culprit));
  const containers = list('container');
  if (containers.length) tests.push((v) => v.owner && v.owner.container && containers.some((c) => v.owner.container.startsWith(c)));
  const pods = list('pod');
  const inPod = (p, word) => {
    if (!p || !p.pod || !p.pod.name) return false;
    return (word.includes('/') ? p.pod.namespace + '/' + p.pod.name : p.pod.name).startsWith(word);
  };
  if (pods.length) tests.push((v) => pods.some((word) => inPod(v.owner, word) || inPod(v.culprit, word)));
  const upstreams = list('upstream').map(upstreamTest);
  if (upstreams.length) tests.push((v) => v.upstream && upstreams.some((holds) => holds(v.upstream)));
  if (filters.since) {
    const ms = duration(filters.since);
    const since = ms === null ? Date.parse(filters.since) : latest - ms;
    if (Number.isNaN(since)) throw new Error('`' + filters.since + '` is no time: 15m and 2026-11-20T12:03 are');
    tests.push((v) => v.at >= since);
  }
  return (v) => tests.every((holds) => holds(v));
}

// An address without its port, and whether there was one.
const hostOf = (text) => text.replace(/:\d+$/, (port) => (text.includes(']') || text.indexOf(':') === text.lastIndexOf(':') ? '' : port)).replace(/^\[|\]$/g, '');

function upstreamTest(word) {
  const [network, prefix] = word.split('/');
  if (word.startsWith('unix:') || word.startsWith('dns:') || prefix === undefined) {
    return (upstream) => upstream === word || hostOf(upstream) === hostOf(word) && hostOf(word) === word.replace(/^\[|\]$/g, '');
  }
  const wanted = bits(network);
  if (wanted === null || !/^\d+$/.test(prefix) || prefix > wanted.length) throw new Error('`' + word + '` is no network');
  return (upstream) => {
    const own = bits(hostOf(upstream));
    return own !== null && own.length === wanted.length && own.slice(0, prefix) === wanted.slice(0, prefix);
  };
}

// An address as a text of 32 or 128 binary digits.
function bits(address) {
  const binary = (n, width) => n.toString(2).padStart(width, '0');
  if (/^\d+(\.\d+){3}$/.test(address)) return address.split('.').map((n) => binary(Number(n), 8)).join('');
  if (!/^[0-9a-f:]+$/i.test(address) || !address.includes(':')) return null;
  const [head, tail] = address.split('::').map((part) => (part ? part.split(':') : []));
  const groups = tail ? [...head, ...Array(Math.max(0, 8 - head.length - tail.length)).fill('0'), ...tail] : head;
  return groups.length === 8 ? groups.map((g) => binary(parseInt(g, 16), 16)).join('') : null;
}

// The filters as options of the command line.
function asOptions(filters) {
  const quoted = (text) => (/^[\w.,:/@%+=\[\]-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'");
  return NAMES.filter((name) => filters[name]).map((name) => ' --' + name + ' ' + quoted(filters[name])).join('');
}
