import { html } from './preact.js';
import { PRIORITIES, hashOf, short } from './parts.js';
import { describe, sharing } from './slot_text.js';

const MOST_BARS = 4; // in a row: more would be too thin to see, or to hit
const BADGES = [['is_retry', 'retry'], ['failed', 'failed'], ['retrying', 'again']];

/** A slot in the row of its priority; what shares one is bars, in the rows of theirs, on a tray. */
export function Slot({ slot, lit, onPoint, stop }) {
  const isWide = slot.width > 12;
  const bars = slot.parts.length > 1 ? barsOf(slot.parts) : null;
  const top = bars?.[0].row;
  return html`
    <li
      class=${bars ? 'slot tray' : 'slot'} data-key=${slot.key} data-start=${slot.start ?? ''} data-kind=${slot.kind} data-priority=${slot.priority}
      data-is-lit=${slot.jobs.includes(lit)} data-has-failed=${slot.failed > 0} data-is-narrow=${!isWide}
      style=${{ left: `${slot.left}px`, width: `${slot.width}px`, ...(bars && { '--at': top, '--rows': bars.at(-1).row - top + 1 }) }}
    >
      ${bars?.map(({ parts, row, index, of }) => html`
        <span
          key=${parts[0].key} class="bar" data-priority=${parts[0].priority}
          data-is-lit=${parts.some((part) => part.ingestion_id === lit)} data-has-failed=${parts.some((part) => part.failed > 0)}
          style=${{ '--at': row - top, '--index': index, '--of': of }}
        >
          <${Content}
            slot=${slot} parts=${parts} onPoint=${onPoint} stop=${stop}
            text=${parts.length > 1 ? `×${parts.length}` : of === 1 && codeOf(parts[0])}
          />
        </span>`) ?? html`<${Content} slot=${slot} parts=${slot.parts} onPoint=${onPoint} stop=${stop} text=${codeOf(slot)} />`}
      ${isWide && BADGES.map(([field, name]) => slot[field] > 0 && html`<span key=${name} class=${`badge ${name}`} aria-hidden="true" />`)}
    </li>
  `;
}

const codeOf = (part) => short(part.ingestion_id).slice(0, 4);

/** Returns a bar for each part, from the top; or one for all in a row where those are too many. */
const barsOf = (parts) => PRIORITIES.flatMap((priority, row) => {
  const own = parts.filter((part) => part.priority === priority);
  const bars = own.length > MOST_BARS ? [own] : own.map((part) => [part]);
  return bars.map((each, index) => ({ parts: each, row, index, of: bars.length }));
});

function Content({ slot, parts, onPoint, stop, text }) {
  const [part, ...more] = parts;
  // Who comes to a shared slot hears what is in it; its other bars are a step further.
  const whole = slot.parts.length > 1 && part.key === slot.key ? `${sharing(slot)}. ` : '';
  return html`
    ${slot.kind !== 'coming' && html`<span class="used" style=${{ width: `min(${slot.used}px, 100%)` }} />`}
    <a
      href=${hashOf(part.ingestion_id)} tabIndex=${parts.some(({ key }) => key === stop) ? 0 : -1}
      aria-label=${`${whole}${describe(part)}${more.length ? `, and ${more.length} more` : ''}`}
      onMouseEnter=${() => onPoint(part)} onFocus=${() => onPoint(part)} onBlur=${() => onPoint(null)}
    />
    ${text && slot.width > 34 && html`<code aria-hidden="true">${text}</code>`}
  `;
}
