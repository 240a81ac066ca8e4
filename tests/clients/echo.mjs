// One Laravel Echo over pusher-js, driven by JSON lines.
//
// node echo.mjs '{"host","port","key","id","secret",("token")}'; with a token the auth endpoint of the host is asked with it,
// else signatures are made here. Then on standard input one object a line:
//   {"do":"listen","channel","event"}   `channel` with its prefix, `event` as an application writes it
//   {"do":"join","channel","user":{"user_id","user_info"}}
// Told on standard output: {"kind":"state","state",("socket_id")}, {"kind":"subscribed","channel"}, {"kind":"event","channel",
// "event","data"}, {"kind":"here","channel","users"}, {"kind":"refused","channel","error"}.

import readline from 'node:readline';
import Echo from 'laravel-echo';
import Client from 'pusher-js';
import Server from 'pusher';

const { host, port, key, id, secret, token } = JSON.parse(process.argv[2]);
const backEnd = new Server({ appId: id, key, secret, host, port: String(port), useTLS: false });
const users = new Map();

function tell(object) {
  process.stdout.write(JSON.stringify(object) + '\n');
}

const signing = {
  authorizer: (channel) => ({
    authorize: (socketId, callback) => {
      callback(null, backEnd.authorizeChannel(socketId, channel.name, users.get(channel.name)));
    },
  }),
};
const asking = { authEndpoint: `http://${host}:${port}/broadcasting/auth`, bearerToken: token };

const echo = new Echo({
  broadcaster: 'pusher',
  Pusher: Client,
  key,
  cluster: '',
  wsHost: host,
  wsPort: port,
  forceTLS: false,
  enabledTransports: ['ws', 'wss'],
  ...(token ? asking : signing),
});

echo.connector.pusher.connection.bind('state_change', ({ current }) => {
  tell({ kind: 'state', state: current, socket_id: echo.socketId() });
});

const verbs = {
  listen: ({ channel: name, event }) => {
    const channel = name.startsWith('private-') ? echo.private(name.slice('private-'.length)) : echo.channel(name);
    channel
      .subscribed(() => tell({ kind: 'subscribed', channel: name }))
      .error((error) => tell({ kind: 'refused', channel: name, error }))
      .listen(event, (data) => tell({ kind: 'event', channel: name, event, data }));
  },
  join: ({ channel: name, user }) => {
    users.set(name, user);
    echo
      .join(name.slice('presence-'.length))
      .here((here) => tell({ kind: 'here', channel: name, users: here }))
      .error((error) => tell({ kind: 'refused', channel: name, error }));
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const told = JSON.parse(line);
  verbs[told.do](told);
});
lines.on('close', () => process.exit(0));
