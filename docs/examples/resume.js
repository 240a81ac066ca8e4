// pusher-js that is told what it missed while it was away, on channels that keep a history (docs/history.md):
//   resume(Pusher, (channel) => reload(channel));   // before `new Pusher(…)` or `new Echo(…)`
// The second function is called for a channel of which something is lost: too long ago, more than is kept, or not kept at all.
function resume(Pusher, lost = () => {}) {
  const create = Pusher.Runtime.createWebSocket.bind(Pusher.Runtime);
  const known = {};
  Pusher.Runtime.createWebSocket = (url) => {
    const socket = create(url), send = socket.send.bind(socket), me = (known[url] ??= { at: {} }), was = me.id, asked = {};
    socket.addEventListener('message', ({ data }) => {
      const { event, channel, position, recovered, data: said } = JSON.parse(data);
      if (event === 'pusher:connection_established') me.id = JSON.parse(said).socket_id;
      if (position) me.at[channel] = position;
      const back = event === 'pusher_internal:subscription_succeeded' && asked[channel];
      if ((back && recovered !== true) || (event === 'fanfare:gap' && channel)) lost(channel);
    });
    socket.send = (text) => {
      const frame = JSON.parse(text), { event, data } = frame, position = me.at[data?.channel];
      if (event === 'pusher:subscribe') {
        asked[data.channel] = position;
        data.resume = position ? { position, socket_id: was } : true;
      }
      if (event === 'pusher:unsubscribe') delete me.at[data.channel];
      send(JSON.stringify(frame));
    };
    return socket;
  };
}

if (typeof module !== 'undefined') module.exports = resume;
