const MOST_SPEED = 48; // px per second: faster than this, nobody reads along
const LEAST_WIDTH = 3; // px
const GAP = 2; // px
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400]; // s
const LEAST_TICK = 96; // px

/** Returns how long a slot is, in ms: the interval, or what the forecast spaces batches by. */
function slotLength({ interval, coming }) {
  const starts = coming.map((slot) => Date.parse(slot.expected_start)).filter(Number.isFinite);
  const gaps = starts.slice(1).map((start, index) => start - starts[index]).sort((a, b) => a - b);
  return Math.max(interval * 1000, gaps[Math.floor(gaps.length / 2)] ?? 0);
}

/**
 * Places slots on an axis of time. `left` and `width` are px, `left` from `origin` (ms). Slots whose time nobody
 * knows, while paused, come in `parked`, in their order, from 0.
 */
export function layOut(slots, { slotWidth, origin, from, until, time }) {
  const length = slotLength(slots);
  const scale = Math.min(length ? slotWidth / length : Infinity, MOST_SPEED / 1000); // px per ms
  const cell = Math.max(LEAST_WIDTH, length * scale - GAP);

  const seen = new Set();
  // The IDs of a batch run once as a batch, and again in retries or when they were interrupted.
  const keyOf = ({ batch_ids: batches, ids, is_retry: isRetry }) => {
    let key = isRetry ? `${batches[0]}/${ids.join('.')}` : batches[0];
    while (seen.has(key)) key += '+';
    seen.add(key);
    return key;
  };

  const past = slots.past.map((slot) => {
    const start = Date.parse(slot.started_at);
    const end = slot.finished_at ? Date.parse(slot.finished_at) : Math.max(time, start);
    const used = (end - start) * scale;
    return { ...slot, key: keyOf(slot), kind: slot.finished_at ? 'past' : 'running', start, width: Math.max(cell, used - GAP), used };
  });
  const coming = slots.coming.map((slot) => {
    const start = slot.expected_start && Date.parse(slot.expected_start);
    return { ...slot, key: keyOf(slot), kind: 'coming', start, width: cell };
  });

  const placed = [...past, ...coming.filter((slot) => slot.start !== null)]
    .filter((slot) => slot.start + slot.width / scale > from(scale) && slot.start < until(scale))
    .map((slot) => ({ ...slot, left: (slot.start - origin) * scale }));
  const parked = coming
    .filter((slot) => slot.start === null)
    .map((slot, index) => ({ ...slot, left: index * (cell + GAP) }));
  return { scale, placed, parked, ticks: ticksBetween(from(scale), until(scale), scale, origin) };
}

function ticksBetween(from, until, scale, origin) {
  const step = (STEPS.find((each) => each * 1000 * scale >= LEAST_TICK) ?? STEPS.at(-1)) * 1000;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at < until; at += step) ticks.push({ at, left: (at - origin) * scale });
  return ticks;
}
