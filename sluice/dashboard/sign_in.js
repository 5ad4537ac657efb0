import { html, useLayoutEffect, useRef, useState } from './preact.js';
import { ApiError } from './api.js';
import { signIn } from './session.js';

const ASKED = 'It takes a key to use this service.';
const WRONG = 'This key is not valid. Was all of it copied?';

/** The form that trades a key for a session. `told` says why it is there, if there is more to say. */
export function SignIn({ told }) {
  const field = useRef(null);
  const [problem, setProblem] = useState('');
  const [isBusy, setBusy] = useState(false);

  useLayoutEffect(() => {
    document.title = 'Sign in · Sluice';
    field.current.focus();
  }, []);

  const submit = async (event) => {
    event.preventDefault();
    if (isBusy) return;
    const key = field.current.value.trim();
    // From here on it is in the body of one request, and nowhere else.
    field.current.value = '';
    setProblem('');
    setBusy(true);
    try {
      await signIn(key);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.status === 401 || !key ? WRONG : error.message);
      setBusy(false);
      field.current.focus();
    }
  };

  // The field has no name, so that nothing but the script above could ever send what is in it.
  return html`
    <main class="door">
      <form method="post" aria-labelledby="sign-in-title" onSubmit=${submit}>
        <h1 id="sign-in-title">Sign in</h1>
        <p id="sign-in-told" class=${told ? '' : 'quiet'}>${told || ASKED}</p>
        <div>
          <label class="field">Key
            <input
              id="key" type="password" autocomplete="current-password" required ref=${field}
              aria-invalid=${Boolean(problem)} aria-describedby="sign-in-told sign-in-problem"
            />
          </label>
          <div id="sign-in-problem" aria-live="assertive">${problem && html`<p class="problem"><span class="mark" aria-hidden="true">✕</span>${problem}</p>`}</div>
        </div>
        <button type="submit" id="sign-in" class="primary wide" aria-disabled=${isBusy}>${isBusy ? 'Signing in…' : 'Sign in'}</button>
      </form>
    </main>
  `;
}
