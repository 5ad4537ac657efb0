import { useEffect, useState } from './preact.js';

const WINDOW = 60_000; // ms
const CLOCK = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };
const clockFormat = new Intl.DateTimeFormat(undefined, CLOCK);
const dayFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', ...CLOCK });

// The server's clock minus ours. A time that the server told is never later than its now, so every one is a lower
// bound, and the greatest is off by no more than the fastest way here. Old ones are forgotten: clocks drift.
let newer = -Infinity;
let older = -Infinity;
let turned = 0;

/** Learns from a time (text) that the server told and that was not in its future. */
export function heard(text) {
  const local = performance.now();
  const offset = Date.parse(text) - local;
  if (!Number.isFinite(offset)) return;
  if (local - turned > WINDOW) {
    older = newer;
    newer = -Infinity;
    turned = local;
  }
  newer = Math.max(newer, offset);
}

/** Returns the server's time, ms since 1970: a good estimate once anything was heard. */
export function now() {
  const offset = Math.max(newer, older);
  return offset === -Infinity ? Date.now() : performance.now() + offset;
}

/** Returns '12:03:04' in the viewer's zone, with the day if it is not today. */
export function clockTime(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date(now()).toDateString();
  return (isToday ? clockFormat : dayFormat).format(date);
}

/** Returns '2026-11-25 12:03:04 UTC'. */
export function utc(ms) {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** Returns '2 min 10 s': the two largest units of a time in ms. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}\u00a0${unit}`).join(' ');
}

/** Returns 'in 2 min 10 s', '4 s ago' or 'now'. */
export function relative(ms, from = now()) {
  const difference = ms - from;
  if (Math.abs(difference) < 500) return 'now';
  return difference > 0 ? `in ${duration(difference)}` : `${duration(-difference)} ago`;
}

/** Renders the component again each second, and gives it the server's time. */
export function useNow() {
  const [time, setTime] = useState(now());
  useEffect(() => {
    const timer = setInterval(() => setTime(now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return Math.max(time, now());
}
