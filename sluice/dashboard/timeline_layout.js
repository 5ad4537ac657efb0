const MOST_SPEED = 48; // px per second: faster than this, nobody reads along
const LEAST_WIDTH = 3; // px
const GAP = 2; // px
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400]; // s
const LEAST_TICK = 96; // px

/**
 * Returns the slots of `entries`: those that share one have the same time in `field`. Without times, while paused,
 * nobody knows; and more than `most` IDs never share one, though slots that take no time are all expected at once.
 */
export function slotsOf(entries, field, most = Infinity) {
  const slots = [];
  let ids = 0;
  for (const entry of entries) {
    const last = slots.at(-1);
    ids += entry.ids.length;
    if (entry[field] && last?.[0][field] === entry[field] && ids <= most) {
      last.push(entry);
    } else {
      slots.push([entry]);
      ids = entry.ids.length;
    }
  }
  return slots.map(asOne);
}

/** Returns the slot of `parts`: what is true of any, and whose they are. */
export const asOne = (parts) => ({
  ...parts[0],
  parts,
  jobs: [...new Set(parts.map((part) => part.ingestion_id))],
  ids: parts.flatMap((part) => part.ids),
  is_retry: parts.some((part) => part.is_retry),
  failed: parts.filter((part) => part.failed).length,
  retrying: parts.filter((part) => part.retrying).length,
});

/** Returns how long a slot is, in ms: the interval, or what the forecast spaces slots by. */
function slotLength(interval, coming) {
  const starts = coming.map((slot) => Date.parse(slot.expected_start)).filter(Number.isFinite);
  const gaps = starts.slice(1).map((start, index) => start - starts[index]).sort((a, b) => a - b);
  return Math.max(interval * 1000, gaps[Math.floor(gaps.length / 2)] ?? 0);
}

/**
 * Places slots on an axis of time. `left` and `width` are px, `left` from `origin` (ms). Slots whose time nobody
 * knows, while paused, come in `parked`, in their order, from 0.
 */
export function layOut(slots, { slotWidth, origin, from, until, time }) {
  const past = slotsOf(slots.past, 'started_at');
  const coming = slotsOf(slots.coming, 'expected_start', slots.batch_size);
  const length = slotLength(slots.interval, coming);
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

  const drawn = (slot, kind, start, size) => {
    const parts = slot.parts.map((part) => ({ ...part, key: keyOf(part), kind, start }));
    return { ...slot, ...size, key: parts[0].key, kind, start, parts };
  };

  const ran = past.map((slot) => {
    const start = Date.parse(slot.started_at);
    const end = slot.finished_at ? Date.parse(slot.finished_at) : Math.max(time, start);
    const used = (end - start) * scale;
    return drawn(slot, slot.finished_at ? 'past' : 'running', start, { width: Math.max(cell, used - GAP), used });
  });
  const ahead = coming.map((slot) => drawn(slot, 'coming', slot.expected_start && Date.parse(slot.expected_start), { width: cell }));

  const placed = [...ran, ...ahead.filter((slot) => slot.start !== null)]
    .filter((slot) => slot.start + slot.width / scale > from(scale) && slot.start < until(scale))
    .map((slot) => ({ ...slot, left: (slot.start - origin) * scale }));
  const parked = ahead
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
