// One room: who is here, what is said, who is typing.

const room = document.querySelector('.chat').dataset.room;
const [people, messages, typing] = ['people', 'messages', 'typing'].map((id) => document.getElementById(id));
const here = new Map();

function initials(name) {
  return name.split(' ').map((word) => word[0]).join('');
}

function list() {
  const sorted = [...here.values()].sort((a, b) => a.name.localeCompare(b.name));
  people.replaceChildren(...sorted.map(({ id, name }) => {
    const person = element('li');
    const you = id === page.user.id ? ' (you)' : '';
    person.append(element('b', `face face-${id}`, initials(name)), element('span', '', name + you));
    return person;
  }));
  document.getElementById('count').textContent = here.size;
}

function show({ id, name }, text) {
  const message = element('li', id === page.user.id ? 'mine' : '');
  const said = element('div');
  said.append(element('small', '', name), element('p', '', text));
  message.append(element('b', `face face-${id}`, initials(name)), said);
  messages.append(message);
  messages.scrollTop = messages.scrollHeight;
}

let quiet;
function typed(name) {
  typing.textContent = name ? `${name} is typing …` : '';
  clearTimeout(quiet);
  if (name) quiet = setTimeout(typed, 3000);
}

const channel = window.Echo.join(`chat.${room}`)
  .here((users) => {
    here.clear();
    users.forEach((user) => here.set(user.id, user));
    list();
  })
  .joining((user) => {
    here.set(user.id, user);
    list();
  })
  .leaving((user) => {
    here.delete(user.id);
    list();
  })
  .listen('MessageSent', ({ from, text }) => {
    typed();
    show(from, text);
  })
  .listenForWhisper('typing', ({ name }) => typed(name));

const form = document.getElementById('send');
let whispered = 0;
form.elements.text.addEventListener('input', () => {
  // Once in two seconds is enough for those who look at it for three.
  if (Date.now() - whispered < 2000) return;
  whispered = Date.now();
  channel.whisper('typing', { name: page.user.name });
});
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const text = form.elements.text.value.trim();
  if (!text) return;
  show(page.user, text);
  post(`/chat/${room}`, { text });
  form.reset();
  whispered = 0;
});
