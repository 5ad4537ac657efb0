import { html, render, useEffect, useState } from './preact.js';
import { Backlog } from './backlog.js';
import { SlotClock, Utilisation } from './clock.js';
import { DialogHost } from './dialogs.js';
import { Header } from './header.js';
import { Ingestion } from './ingestion.js';
import { Ingestions } from './ingestions.js';
import { start } from './live.js';
import { skipTo } from './parts.js';
import { begin, useCan } from './session.js';
import { SignIn } from './sign_in.js';
import { useStore } from './store.js';
import { Submit } from './submit.js';
import { Timeline } from './timeline.js';

const ROUTE = /^#\/ingestions\/([\w-]+)$/;

/** Returns the ingestion that the address is about; null for the list. */
function routeOf() {
  return ROUTE.exec(location.hash)?.[1] ?? null;
}

function useRoute() {
  const [route, setRoute] = useState(routeOf);
  useEffect(() => {
    const follow = () => setRoute(routeOf());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return route;
}

function App() {
  const session = useStore((state) => state.session);
  switch (session.is) {
    case 'in':
      return html`<${Dashboard} key=${`${session.role} ${session.name}`} />`;
    case 'out':
      return html`<${Header} /><${SignIn} told=${session.text} />`;
    default:
      return html`<${Header} /><main><p class="nothing" role="status">${session.text}</p></main>`;
  }
}

function Dashboard() {
  const route = useRoute();
  const can = useCan();
  const [isFirst, setFirst] = useState(true);
  useEffect(start, []);
  useEffect(() => {
    if (route) setFirst(false);
    else {
      document.title = 'Sluice';
      if (!isFirst) document.getElementById('ingestions-title').focus({ preventScroll: true });
    }
  }, [route]);
  return html`
    ${can.submit && html`<a class="skip" href="#submit-title" onClick=${skipTo('submit-title')}>Skip to the form</a>`}
    <${Header} />
    <main>
      <h1 class="hidden">Sluice</h1>
      <${LaneProblem} />
      ${can.watch && html`
        <div class="overview"><${SlotClock} /><${Backlog} /><${Utilisation} /></div>
        <${Timeline} shown=${route} />`}
      ${!can.watch && html`<p class="scope" id="scope">This key submits, and sees what it submitted. The queue, the timeline and the ingestions of others are not for it.</p>`}
      <div class="work">
        ${route ? html`<${Ingestion} key=${route} id=${route} />` : html`<${Ingestions} />`}
        ${can.submit && html`<${Submit} />`}
      </div>
    </main>
    <${DialogHost} />
  `;
}

function LaneProblem() {
  const loadError = useStore((state) => state.loadError);
  const lane = useStore((state) => state.lane);
  const isKnown = useStore((state) => Boolean(state.queue ?? state.list));
  if (!loadError || isKnown || lane === 'default') return null;
  return html`<p class="problem" role="alert"><span>${loadError} <a href="/">Show the lane default</a></span></p>`;
}

render(html`<${App} />`, document.getElementById('app'));
begin();
