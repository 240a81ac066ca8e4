// One pusher-js client, driven by JSON lines.
//
// node subscriber.js '{"host","port","key","id","secret",("tls"),("library"),("resume")}'; then on standard input one object a line:
//   {"do":"subscribe","channel",("user":{"user_id","user_info"})}   {"do":"unsubscribe","channel"}
//   {"do":"whisper","channel","event","data"}                       {"do":"disconnect"}
//   {"do":"signin","user":{"id",("user_info","watchlist")}}         {"do":"write","text"} around the library
//   {"do":"say"}
// Told on standard output: {"kind":"state","state","at",("socket_id")}, {"kind":"event","channel","event","data"} for all that
// an application hears on its channels, {"kind":"members","channel","ids"} after each change, {"kind":"error","error","at"},
// {"kind":"signed_in","id"} once the user's own channel is subscribed to, {"kind":"user","event","data"} for what comes on it,
// {"kind":"watchlist","event","user_ids"}, {"kind":"said"}, and with
// "resume" {"kind":"lost","channel"}. `at` counts milliseconds.
'use strict';

const readline = require('node:readline');
const Server = require('pusher');

const { host, port, key, id, secret, tls = false, library = 'pusher-js', resume = false } = JSON.parse(process.argv[2]);
const Client = require(library);
// As the documents tell it.
if (resume) require('../../docs/examples/resume.js')(Client, (channel) => tell({ kind: 'lost', channel }));
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString('base64');
const backEnd = new Server({ appId: id, key, secret, host, port: String(port), useTLS: tls, encryptionMasterKeyBase64 });
const users = new Map();

// What the application's own back end does when Echo asks it.
function authorize({ socketId, channelName }, callback) {
  callback(null, backEnd.authorizeChannel(socketId, channelName, users.get(channelName)));
}

let me;
function authenticate({ socketId }, callback) {
  callback(null, backEnd.authenticateUser(socketId, me));
}

const client = new Client(key, {
  wsHost: host,
  wsPort: port,
  wssPort: port,
  forceTLS: tls,
  cluster: '',
  enabledTransports: ['ws', 'wss'],
  channelAuthorization: { customHandler: authorize },
  userAuthentication: { customHandler: authenticate },
});

function tell(object) {
  process.stdout.write(JSON.stringify(object) + '\n');
}

client.connection.bind('state_change', ({ current }) => {
  tell({ kind: 'state', state: current, at: performance.now(), socket_id: client.connection.socket_id });
});
client.connection.bind('error', (error) => {
  // While it connects the library wraps what the server said.
  const said = error.data ?? error.error?.data;
  tell({ kind: 'error', error: said ?? String(error), at: performance.now() });
});

client.user.bind_global((event, data) => tell({ kind: 'user', event, data }));
client.user.watchlist.bind_global((event, { user_ids }) => tell({ kind: 'watchlist', event, user_ids }));
client.bind('pusher:signin_success', () => {
  // pusher-js makes the user's channel right after it has told of the success.
  setTimeout(() => {
    const signedIn = () => tell({ kind: 'signed_in', id: client.user.user_data.id });
    client.user.serverToUserChannel.bind('pusher:subscription_succeeded', signedIn);
  }, 0);
});

function subscribe({ channel: name, user }) {
  if (user) users.set(name, user);
  const channel = client.subscribe(name);
  channel.bind_global((event, data) => {
    const object = data !== undefined && typeof data.each === 'function' ? { count: data.count } : data;
    tell({ kind: 'event', channel: name, event, data: object });
    if (channel.members) tell({ kind: 'members', channel: name, ids: Object.keys(channel.members.members).sort() });
  });
}

const verbs = {
  subscribe,
  unsubscribe: ({ channel }) => {
    client.channel(channel).unbind_all();
    client.unsubscribe(channel);
  },
  whisper: ({ channel, event, data }) => client.channel(channel).trigger(event, data),
  disconnect: () => client.disconnect(),
  signin: ({ user }) => {
    me = user;
    client.signin();
  },
  write: ({ text }) => client.connection.connection.transport.socket.send(text),
  say: () => tell({ kind: 'said' }),
};

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const told = JSON.parse(line);
  verbs[told.do](told);
});
lines.on('close', () => process.exit(0));
