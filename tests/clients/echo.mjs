// One Laravel Echo, driven by JSON lines.
//
// node echo.mjs '{"host","port","key","id","secret",("token"),("connector"),("echo"),("client"),("transports"),("cookies")}'.
// `connector`: pusher, reverb or socket.io; `echo` and `client`: packages of package.json; `cookies`: that of a load balancer is kept, by
// the client itself ("own") or below it, as a browser would for it ("below"). With a token it says at the auth endpoint, or to the node
// itself, who the user is; else signatures are made here. Then on standard input one object a line, `channel` with its prefix,
// `event` as an application writes it:
//   {"do":"listen","channel","event",("user":{"user_id","user_info"})}   {"do":"join","channel",("user")}
//   {"do":"whisper","channel","event","data"}                          {"do":"hear","channel","event"} a whisper
//   {"do":"notification","channel"}   {"do":"all","channel"}           {"do":"leave","channel"} without its prefix
//   {"do":"say"}   {"do":"transport"}
// Told on standard output: {"kind":"state","state",("socket_id")}, {"kind":"subscribed","channel"}, {"kind":"event","channel",
// "event","data"}, {"kind":"here","channel","users"}, {"kind":"joining" or "leaving","channel","user"}, {"kind":"whisper" or "all",
// "channel","event","data"}, {"kind":"notification","channel","data"}, {"kind":"refused","channel","error"}, {"kind":"said"}, {"kind":"transport","name"}.

import http from 'node:http';
import readline from 'node:readline';
import Server from 'pusher';

const told = JSON.parse(process.argv[2]);
const { host, port, key, id, secret, token, transports, cookies, connector = 'pusher', echo: library = 'laravel-echo' } = told;
const overPusher = connector !== 'socket.io';
const Echo = await load(library, 'default');
const Client = await load(told.client ?? 'pusher-js', overPusher ? 'default' : 'io');
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString('base64');
const backEnd = new Server({ appId: id, key, secret, host, port: String(port), useTLS: false, encryptionMasterKeyBase64 });
const users = new Map();

// Some of the packages are made for `require`, and what they give is wrapped once more.
async function load(name, what) {
  const module = await import(name);
  return module[what]?.default ?? module[what] ?? module.default;
}

function tell(object) {
  process.stdout.write(JSON.stringify(object) + '\n');
}

// Keeps the one cookie that there is.
class Jar extends http.Agent {
  addRequest(request, options) {
    if (this.cookie) request.setHeader('Cookie', this.cookie);
    const keep = ({ headers }) => (this.cookie = headers['set-cookie']?.[0].split(';')[0] ?? this.cookie);
    request.once('response', keep);
    super.addRequest(request, options);
  }
}

const signing = {
  authorizer: (channel) => ({
    authorize: (socketId, callback) => {
      callback(null, backEnd.authorizeChannel(socketId, channel.name, users.get(channel.name)));
    },
  }),
};
const asking = { authEndpoint: `http://${host}:${port}/broadcasting/auth`, bearerToken: token };
const pusher = () => ({
  Pusher: Client,
  key,
  cluster: '',
  wsHost: host,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws', 'wss'],
  ...(token ? asking : signing),
});
const socketIo = () => ({
  client: Client,
  host: `http://${host}:${port}`,
  bearerToken: token,
  auth: { headers: {} },
  ...(transports ? { transports } : {}),
  ...(cookies === 'own' ? { withCredentials: true } : {}),
  ...(cookies === 'below' ? { agent: new Jar() } : {}),
});

const echo = new Echo({ broadcaster: connector, ...(overPusher ? pusher() : socketIo()) });

if (overPusher) {
  echo.connector.pusher.connection.bind('state_change', ({ current }) => {
    tell({ kind: 'state', state: current, socket_id: echo.socketId() });
  });
} else {
  const { socket } = echo.connector;
  socket.on('connect', () => tell({ kind: 'state', state: 'connected', socket_id: echo.socketId() }));
  socket.on('disconnect', () => tell({ kind: 'state', state: 'disconnected' }));
  // Echo's own .error() does nothing here.
  socket.on('subscription_error', (channel, status) => tell({ kind: 'refused', channel, error: { status } }));
}

// Longest first.
const KINDS = [
  ['private-encrypted-', (name) => echo.encryptedPrivate(name)],
  ['private-', (name) => echo.private(name)],
  ['presence-', (name) => echo.join(name)],
  ['', (name) => echo.channel(name)],
];

function channel(name) {
  const [prefix, open] = KINDS.find(([prefix]) => name.startsWith(prefix));
  return open(name.slice(prefix.length));
}

const verbs = {
  listen: ({ channel: name, event, user }) => {
    if (user) users.set(name, user);
    channel(name)
      .subscribed(() => tell({ kind: 'subscribed', channel: name }))
      .error((error) => tell({ kind: 'refused', channel: name, error }))
      .listen(event, (data) => tell({ kind: 'event', channel: name, event, data }));
  },
  join: ({ channel: name, user }) => {
    users.set(name, user);
    channel(name)
      .here((here) => tell({ kind: 'here', channel: name, users: here }))
      .joining((user) => tell({ kind: 'joining', channel: name, user }))
      .leaving((user) => tell({ kind: 'leaving', channel: name, user }))
      .error((error) => tell({ kind: 'refused', channel: name, error }));
  },
  hear: ({ channel: name, event }) => {
    channel(name).listenForWhisper(event, (data) => tell({ kind: 'whisper', channel: name, event, data }));
  },
  whisper: ({ channel: name, event, data }) => channel(name).whisper(event, data),
  notification: ({ channel: name }) => {
    channel(name).notification((data) => tell({ kind: 'notification', channel: name, data }));
  },
  all: ({ channel: name }) => {
    channel(name).listenToAll((event, data) => tell({ kind: 'all', channel: name, event, data }));
  },
  leave: ({ channel: name }) => echo.leave(name),
  say: () => tell({ kind: 'said' }),
  transport: () => tell({ kind: 'transport', name: echo.connector.socket.io.engine.transport.name }),
};

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const told = JSON.parse(line);
  verbs[told.do](told);
});
lines.on('close', () => process.exit(0));
