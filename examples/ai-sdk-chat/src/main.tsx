import { generateId } from 'ai';
import { createRoot } from 'react-dom/client';
import { Chat } from './Chat';
import { history } from './history';
import './style.css';

// The chat's id is the URL's hash: a reload and a second tab come back to it.
const known = location.hash.slice(1);
const id = known || generateId();
window.history.replaceState(null, '', '#' + id);
addEventListener('hashchange', () => location.reload());

const root = createRoot(document.getElementById('root')!);
const unreachable = <p role="alert">
  The server cannot be reached. <button onClick={() => location.reload()}>Try again</button>
</p>;
(known ? history(known) : Promise.resolve([])).then(
  messages => root.render(<Chat id={id} history={messages} />),
  () => root.render(unreachable),
);
