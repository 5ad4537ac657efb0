import { html } from './preact.js';
import * as api from './api.js';
import { ask } from './dialogs.js';
import { refresh } from './live.js';
import { Priority, PRIORITIES, count, short } from './parts.js';

const doThen = (act) => async (data) => {
  await act(data);
  refresh();
};

/** Asks, then starts no more batches of the lane. */
export function askToPause(lane, running) {
  ask({
    title: `Pause the lane ${lane}?`,
    text: `No batch starts until it is resumed. ${running ? 'The running one finishes. ' : ''}IDs are still accepted and wait.`,
    fields: html`
      <label class="field">Reason, shown to everyone (optional)
        <input name="reason" maxlength="200" autocomplete="off" />
      </label>`,
    confirm: 'Pause',
    run: doThen((data) => api.pause(lane, data.get('reason'))),
  });
}

/** Asks, then starts batches again. */
export function askToResume(lane, waiting) {
  ask({
    title: `Resume the lane ${lane}?`,
    text: waiting
      ? `${count(waiting, 'waiting batch', 'waiting batches')} will start one by one, at the permitted pace.`
      : 'Nothing waits; what comes will start at the permitted pace.',
    confirm: 'Resume',
    run: doThen(() => api.resume(lane)),
  });
}

/** Asks, then gives up what of the ingestion has not started. */
export function askToCancel({ ingestion_id: id, progress }) {
  const waiting = progress.yet_to_start;
  const gone = waiting ? `${count(waiting, 'batch that has', 'batches that have')} not started will be cancelled for good. ` : 'All its batches have started. ';
  const begun = progress.triggered ? 'A batch that is running finishes; IDs that wait for another attempt are given up. ' : '';
  ask({
    title: `Cancel ${short(id)}?`,
    text: `${gone}${begun}What is done stays done.`,
    confirm: waiting ? `Cancel ${count(waiting, 'batch', 'batches')}` : 'Give up',
    isDanger: true,
    run: doThen(() => api.cancel(id)),
  });
}

/** Asks for another priority, then gives it. */
export function askToReprioritise({ ingestion_id: id, priority }) {
  ask({
    title: `Change the priority of ${short(id)}?`,
    text: 'It takes the place that it would have, had it been submitted so: it keeps its created time, and goes before what came later with the same priority.',
    fields: html`
      <fieldset class="choices">
        <legend>Priority</legend>
        ${PRIORITIES.map((each) => html`
          <label key=${each}>
            <input type="radio" name="priority" value=${each} defaultChecked=${each === priority} required />
            <${Priority} of=${each} />
          </label>`)}
      </fieldset>`,
    confirm: 'Change',
    run: doThen((data) => api.reprioritise(id, data.get('priority'))),
  });
}

/** Asks, then tries the failed IDs again. */
export function askToRetry({ ingestion_id: id, priority, progress }) {
  ask({
    title: `Try the failures of ${short(id)} again?`,
    text: `The failed IDs in ${count(progress.failed, 'batch', 'batches')} get a fresh set of attempts, in slots of their own and in the ingestion's own place among ${priority} work.`,
    confirm: 'Try again',
    run: doThen(() => api.retry(id)),
  });
}
