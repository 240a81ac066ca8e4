// The `pusher` server SDK, driven by JSON lines.
//
// node api.js '{"host","port","key","id","secret",("tls")}'; then on standard input one object a line, each answered with one line
// {"status","body"}:
//   {"do":"trigger","channels","event","data",("socket_id")}
//   {"do":"count","channel","publisher","first","count"}   so many events OrderShipped, numbered, one after the other
//   {"do":"to_user","user","event","data"}   {"do":"terminate","user"}
//   {"do":"batch","batch":[{"channel","name","data",("socket_id")}]}
//   {"do":"get","path",("params")}   {"do":"publish","channels","event","data","info"}
//   {"do":"webhook","headers","body"}   body: {"valid","events","time"} of the SDK's webhook
//   {"do":"authorize","socket_id","channel",("user")}   body: the answer of an application's auth endpoint
'use strict';

const readline = require('node:readline');
const http = require('node:http');
const https = require('node:https');
const Pusher = require('pusher');

const { host, port, key, id, secret, tls = false } = JSON.parse(process.argv[2]);
const agent = new (tls ? https : http).Agent({ keepAlive: true });
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString('base64');
const pusher = new Pusher({
  appId: id,
  key,
  secret,
  host,
  port: String(port),
  useTLS: tls,
  agent,
  encryptionMasterKeyBase64,
});

const verbs = {
  trigger: ({ channels, event, data, socket_id }) =>
    pusher.trigger(channels, event, data, socket_id ? { socket_id } : undefined),
  count: async ({ channel, publisher, first, count }) => {
    let last;
    for (let number = first; number < first + count; number++) {
      last = await pusher.trigger(channel, 'App\\Events\\OrderShipped', { publisher, number });
    }
    return last;
  },
  to_user: ({ user, event, data }) => pusher.sendToUser(user, event, data),
  terminate: ({ user }) => pusher.terminateUserConnections(user),
  get: ({ path, params }) => pusher.get({ path, params }),
  publish: ({ channels, event, data, info }) => pusher.trigger(channels, event, data, { info }),
  webhook: async ({ headers, body }) => {
    const webhook = pusher.webhook({ headers, rawBody: body });
    return webhook.isValid()
      ? { valid: true, events: webhook.getEvents(), time: webhook.getTime().getTime() }
      : { valid: false };
  },
  batch: ({ batch }) => pusher.triggerBatch(batch),
  authorize: async ({ socket_id, channel, user }) => pusher.authorizeChannel(socket_id, channel, user),
};

async function answer(line) {
  const told = JSON.parse(line);
  try {
    const result = await verbs[told.do](told);
    return result.status ? { status: result.status, body: await result.text() } : { status: 200, body: JSON.stringify(result) };
  } catch (error) {
    return { status: error.status ?? 0, body: error.body ?? String(error) };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(line)) + '\n');
  }
})();
