import { html, useEffect, useLayoutEffect, useRef, useState } from './preact.js';
import { isStill, keepDrawing } from './motion.js';
import { PRIORITIES, Priority, count } from './parts.js';
import { Inspector } from './slot_text.js';
import { get, update, useStore } from './store.js';
import { clockTime, now, useNow } from './time.js';
import { layOut } from './timeline_layout.js';
import { Slot } from './timeline_slot.js';

const MARGIN = 150; // px that are drawn beyond both ends
const SHIFT = { duration: 600, easing: 'cubic-bezier(.3, .9, .3, 1)' };
const KEYS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** The last slots and the coming ones, on an axis of time that moves under the mark of now. */
export function Timeline({ shown }) {
  const slots = useStore((state) => state.slots);
  const queue = useStore((state) => state.queue);
  const connection = useStore((state) => state.connection);
  const pointedAt = useStore((state) => state.lit);
  const lit = pointedAt ?? shown;
  const current = useNow();
  const loadedAt = useStore((state) => state.loadedAt);
  // Nothing more is known once the server is away, so time stands still where it was known last.
  const frozen = connection === 'down' ? loadedAt : null;
  const time = frozen ?? current;
  const view = useRef(null);
  const width = useWidth(view);
  const [pointed, setPointed] = useState(null);
  const origin = useRef(0);
  // Not for ever the same one: a px has to stay a px.
  if (Math.abs(time - origin.current) > 1_800_000) origin.current = time;
  const isNarrow = width < 600;
  const nowAt = Math.round(width * (isNarrow ? 0.28 : 0.38));
  const layout = slots && width && layOut(slots, {
    slotWidth: isNarrow ? 38 : 48,
    origin: origin.current,
    from: (scale) => time - (nowAt + MARGIN) / scale,
    until: (scale) => time + (width - nowAt + MARGIN) / scale,
    time,
  });
  const track = useTrack(layout, origin, nowAt, frozen);
  const all = layout ? [...layout.placed, ...layout.parked] : [];
  const partAt = (slot) => slot.parts.find((part) => part.key === pointed);
  const inspected = all.find(partAt);
  const waiting = queue ? Object.values(queue.waiting).reduce((sum, each) => sum + each, 0) : 0;
  const seen = all.filter((slot) => slot.kind === 'coming' && isSeen(slot, layout.scale, time, width - nowAt));
  // Batches, as those that wait are: several may share a slot.
  const beyond = layout ? waiting - seen.reduce((sum, slot) => sum + slot.parts.length, 0) : 0;

  const point = (part) => {
    setPointed(part?.key ?? null);
    update({ lit: part?.ingestion_id ?? null });
  };
  const list = (items, ref, name) => html`
    <ol class=${name} ref=${ref} role="list" aria-label=${name === 'track' ? 'Slots, oldest first' : 'Slots to come once resumed'} onKeyDown=${walk}>
      ${items.map((slot, index) => html`<${Slot} key=${slot.key} slot=${slot} lit=${lit} onPoint=${point} stop=${partAt(slot)?.key ?? (!inspected && index === stopOf(items) ? slot.key : null)} />`)}
    </ol>`;

  return html`
    <section class="timeline" aria-labelledby="timeline-title" data-is-pointed=${Boolean(pointedAt)} data-is-stale=${frozen !== null}>
      <header>
        <h2 id="timeline-title">Timeline</h2>
        <p class="sides quiet"><span class="ran">← what ran</span><span>forecast${beyond > 0 && `, and ${count(beyond, 'batch', 'batches')} more`} →</span></p>
      </header>
      <div class="rows" aria-hidden="true">${PRIORITIES.map((each) => html`<span key=${each}><${Priority} of=${each} isShort /></span>`)}</div>
      <div class="view" ref=${view} onMouseLeave=${() => point(null)}>
        <div class="now" style=${{ left: `${nowAt}px` }}><span>${frozen ? clockTime(frozen) : 'now'}</span></div>
        <div class="ahead" style=${{ left: `${nowAt}px` }} />
        ${layout && html`
          <div class="strip">
            ${list(layout.placed, track, 'track')}
            <div class="ticks" aria-hidden="true">${layout.ticks.map(({ at, left }) => html`<span key=${at} style=${{ left: `${left}px` }}>${clockTime(at)}</span>`)}</div>
          </div>
          ${layout.parked.length > 0 && html`<div class="parking" style=${{ left: `${nowAt + 14}px` }}>${list(layout.parked, null, 'parked')}</div>`}
        `}
        ${slots && all.length === 0 && html`<p class="nothing">${emptyText(slots)}</p>`}
      </div>
      <${Inspector} slot=${inspected} part=${inspected && partAt(inspected)} isPaused=${Boolean(queue?.paused)} />
    </section>
  `;
}

const isSeen = (slot, scale, time, room) => slot.start === null || (slot.start - time) * scale < room;
const stopOf = (items) => Math.max(0, items.findIndex((slot) => slot.kind !== 'past'));

function emptyText({ past }) {
  return past.length
    ? `Nothing waits. The last slot was used at ${clockTime(Date.parse(past.at(-1).started_at))}.`
    : 'No slot was used yet. The first batch starts as soon as IDs arrive.';
}

function walk(event) {
  const step = KEYS[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const links = [...event.currentTarget.querySelectorAll('a')];
  const index = Math.min(links.length - 1, Math.max(0, links.indexOf(document.activeElement) + step));
  links[index]?.focus({ preventScroll: true });
}

function useWidth(ref) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** Moves the track with time, and lets slots glide from where they were when the forecast changes. */
function useTrack(layout, origin, nowAt, frozen) {
  const track = useRef(null);
  const before = useRef(null);
  const focused = useRef(null);

  useEffect(() => {
    if (!layout) return undefined;
    return keepDrawing(() => {
      const x = nowAt - ((frozen ?? now()) - origin.current) * layout.scale;
      if (track.current) track.current.parentNode.style.transform = `translateX(${x.toFixed(2)}px)`;
      return !frozen;
    });
  }, [layout?.scale, nowAt, Boolean(layout), frozen]);

  useLayoutEffect(() => {
    if (!track.current) return;
    const starts = new Map();
    for (const element of track.current.children) {
      const { key, start, kind } = element.dataset;
      const earlier = before.current?.get(key);
      starts.set(key, Number(start));
      if (isStill() || !before.current) continue;
      const shift = earlier === undefined ? 0 : (earlier - start) * layout.scale;
      if (Math.abs(shift) > 2) element.animate([{ transform: `translateX(${shift}px)` }, { transform: 'none' }], SHIFT);
      if (earlier === undefined && kind === 'coming' && isNews(start)) {
        element.classList.add('arrives');
        element.onanimationend = () => element.classList.remove('arrives');
      }
    }
    before.current = starts;
    // A slot that moved in the list lost the focus with it.
    if (focused.current && document.activeElement === document.body) {
      [...track.current.children].find((each) => each.dataset.key === focused.current)?.querySelector('a').focus();
    }
    focused.current = track.current.contains(document.activeElement) ? document.activeElement.closest('li').dataset.key : null;
  });
  return track;

  // What comes in at the far end is only now in sight; what comes in before others has jumped ahead.
  function isNews(start) {
    const last = get().slots.coming.at(-1)?.expected_start;
    return Number(start) < Date.parse(last) || get().slots.coming.length < 20;
  }
}
