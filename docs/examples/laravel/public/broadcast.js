// Echo, as config/broadcasting.php says, and what both pages need beside it.

const front = page.front;
const node = `${front.scheme}://${front.host}:${front.port}`;
const token = document.querySelector('meta[name=csrf-token]').content;

// pusher-js by itself sends no cookie to another origin. The browser does when it is asked to, because the node is on the
// same site as this page: the node puts the question to Laravel with the session's cookie, and signs the yes.
async function authorise({ socketId, channelName }, answer) {
  try {
    const body = new URLSearchParams({ socket_id: socketId, channel_name: channelName });
    const response = await fetch(`${node}/broadcasting/auth`, { method: 'POST', credentials: 'include', body });
    const said = await response.json();
    if (!response.ok) throw new Error(`${channelName}: ${response.status} ${said.message}`);
    answer(null, said);
  } catch (error) {
    answer(error, null);
  }
}

const connectors = {
  pusher: () => ({
    broadcaster: 'pusher',
    key: front.key,
    cluster: '',
    wsHost: front.host,
    wsPort: front.port,
    wssPort: front.port,
    forceTLS: front.scheme === 'https',
    enabledTransports: ['ws', 'wss'],
    channelAuthorization: { customHandler: authorise },
  }),
  'socket.io': () => ({ broadcaster: 'socket.io', client: io, host: node, withCredentials: true }),
};

// Echo's file for pages without a build step names its module; the class is the module's default.
window.Echo = new Echo.default(connectors[front.connector]());

const state = document.getElementById('state');
window.Echo.connector.onConnectionChange((now) => {
  state.textContent = now;
  state.dataset.now = now;
});

// A request of this page; with the socket's id, so that ->toOthers() leaves this page out.
function post(path, data = {}) {
  const headers = { 'X-CSRF-TOKEN': token, 'X-Socket-ID': window.Echo.socketId() ?? '', Accept: 'application/json' };
  return fetch(path, { method: 'POST', headers, body: new URLSearchParams(data) });
}

// An element with a class and a text. What people wrote goes through here and is never read as HTML.
function element(tag, name = '', text = '') {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}
