import { html, useLayoutEffect, useRef, useState } from './preact.js';
import { ApiError } from './api.js';
import { Problem } from './parts.js';
import { get, update, useStore } from './store.js';

/**
 * Asks before something is done. `text` says what will happen, `fields` are form elements, and `run`, called with
 * the form's data, does it: the dialog stays open until it is done, and shows why it was not.
 */
export function ask({ title, text, fields, confirm, isDanger = false, run }) {
  update({ dialog: { title, text, fields, confirm, isDanger, run } });
}

/** The dialog that is open, if any. */
export function DialogHost() {
  const dialog = useStore((state) => state.dialog);
  return dialog ? html`<${Dialog} key=${dialog.title} ...${dialog} />` : null;
}

function Dialog({ title, text, fields, confirm, isDanger, run }) {
  const element = useRef(null);
  const [problem, setProblem] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useLayoutEffect(() => element.current.showModal(), []);

  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await run(new FormData(event.target));
      element.current.close();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.message);
      setBusy(false);
    }
  };
  const closed = () => get().dialog?.title === title && update({ dialog: null });

  return html`
    <dialog ref=${element} onClose=${closed} aria-labelledby="dialog-title" aria-describedby="dialog-text">
      <form onSubmit=${submit}>
        <h2 id="dialog-title">${title}</h2>
        <p id="dialog-text">${text}</p>
        ${fields}
        ${problem && html`<${Problem}>${problem}<//>`}
        <div class="buttons">
          <button type="button" onClick=${() => element.current.close()}>Keep as it is</button>
          <button type="submit" class=${isDanger ? 'danger' : 'primary'} disabled=${isBusy}>${confirm}</button>
        </div>
      </form>
    </dialog>
  `;
}
