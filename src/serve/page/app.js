// The page of `tulu-quant serve`. Conversations stay in this browser; requests go to this server only.
import { markdown } from '/page/markdown.js';

const el = (id) => document.getElementById(id);
// crypto.randomUUID exists only on pages of https and of this machine.
const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join('-');
const SETTINGS = ['temperature', 'top_k', 'top_p', 'min_p', 'repeat_penalty', 'max_tokens', 'seed'];
const STORE = 'tulu-quant.conversations';

let conversations = read(STORE, []);
let current = null;
let running = null;
let props = { default_generation_settings: {} };

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function save() {
  try {
    localStorage.setItem(STORE, JSON.stringify(conversations.filter((talk) => talk.messages.length > 0)));
  } catch {
    note('The browser has no room for this conversation. Export it, or delete others.');
  }
}

function note(text) {
  el('note').textContent = text;
}

/** Sends a request to this server, with the key if there is one. */
async function call(path, body, signal) {
  const key = el('key').value.trim();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers['Content-Type'] = 'application/json';
  const response = await fetch(path, { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), signal });
  if (response.ok) return response;
  const error = await response.json().catch(() => ({}));
  if (response.status === 401) showSettings(true);
  throw new Error(error.error?.message ?? `The server answered with status ${response.status}.`);
}

// Conversations

function create() {
  current = { id: newId(), messages: [], system: '', settings: {}, at: Date.now() };
  conversations.unshift(current);
  open(current);
}

function open(talk) {
  if (running) running.abort();
  current = talk;
  el('system').value = talk.system ?? '';
  for (const name of SETTINGS) el(name).value = talk.settings?.[name] ?? '';
  render();
  showList(false);
  el('input').focus();
}

function titleOf(talk) {
  const first = talk.messages.find((message) => message.role === 'user');
  return first ? first.content.trim().split('\n')[0].slice(0, 60) : 'New conversation';
}

function renderList() {
  el('list').replaceChildren(...conversations.map((talk) => {
    const item = document.createElement('li');
    const title = titleOf(talk);
    const name = button(title, () => open(talk));
    name.className = 'open';
    if (talk === current) name.setAttribute('aria-current', 'true');
    const remove = button('×', () => {
      if (!confirm(`Delete "${title}"?`)) return;
      conversations = conversations.filter((other) => other !== talk);
      save();
      if (talk === current) conversations.length ? open(conversations[0]) : create();
      else renderList();
    });
    remove.setAttribute('aria-label', `Delete ${title}`);
    item.append(name, remove);
    return item;
  }));
  el('title').textContent = titleOf(current);
}

function button(text, action) {
  const element = document.createElement('button');
  element.type = 'button';
  element.textContent = text;
  element.addEventListener('click', action);
  return element;
}

function render() {
  renderList();
  const turns = current.messages.map(turn);
  if (turns.length === 0) {
    const empty = document.createElement('li');
    empty.className = 'empty';
    empty.textContent = props.model ? `${props.model} is ready.` : 'Write a message to begin.';
    turns.push(empty);
  }
  el('talk').replaceChildren(...turns);
  el('send').hidden = running !== null;
  el('stop').hidden = running === null;
  toEnd(true);
}

/** Returns the element of a message. */
function turn(message, index) {
  const item = document.createElement('li');
  item.className = `turn ${message.role}`;
  const who = document.createElement('div');
  who.className = 'who';
  who.textContent = message.role === 'user' ? 'You' : 'Tulu';
  const text = document.createElement('div');
  text.className = 'text';
  fill(text, message);
  const tools = document.createElement('div');
  tools.className = 'tools';
  const free = running === null;
  if (free && message.role === 'user') tools.append(button('Edit', () => edit(index, text)));
  if (free && message.role === 'assistant' && index === current.messages.length - 1) {
    tools.append(button('Regenerate', () => {
      current.messages.pop();
      answer();
    }));
  }
  if (message.content && navigator.clipboard) tools.append(button('Copy', () => navigator.clipboard.writeText(message.content)));
  if (message.note) tools.append(message.note);
  item.append(who, text, tools);
  return item;
}

function fill(element, message) {
  element.replaceChildren();
  if (message.role === 'assistant') {
    markdown(element, message.content);
  } else {
    element.style.whiteSpace = 'pre-wrap';
    element.textContent = message.content;
  }
}

/** Lets the user change a message; what followed it is answered again. */
function edit(index, text) {
  const area = document.createElement('textarea');
  area.value = current.messages[index].content;
  area.rows = Math.min(12, area.value.split('\n').length + 1);
  area.setAttribute('aria-label', 'Change the message');
  const send = button('Send again', () => {
    if (!area.value.trim()) return;
    current.messages.length = index;
    current.messages.push({ role: 'user', content: area.value });
    answer();
  });
  text.replaceChildren(area, send, button('Cancel', render));
  area.focus();
}

// Answers

function settings() {
  const values = {};
  for (const name of SETTINGS) {
    if (el(name).value !== '') values[name] = Number(el(name).value);
  }
  return values;
}

async function answer() {
  note('');
  const talk = current;
  talk.system = el('system').value;
  talk.settings = settings();
  talk.at = Date.now();
  running = new AbortController();
  const messages = talk.messages.map(({ role, content }) => ({ role, content }));
  if (talk.system.trim()) messages.unshift({ role: 'system', content: talk.system });
  const reply = { role: 'assistant', content: '' };
  talk.messages.push(reply);
  render();
  const element = el('talk').lastElementChild.querySelector('.text');
  el('talk').setAttribute('aria-busy', 'true');
  try {
    await stream({ model: props.model ?? 'tulu', messages, ...talk.settings }, reply, element);
  } catch (error) {
    if (error.name === 'AbortError') reply.note = 'stopped';
    else note(error.message);
  }
  if (reply.content === '') talk.messages.pop();
  running = null;
  el('talk').removeAttribute('aria-busy');
  save();
  if (talk === current) render();
  el('input').focus();
}

/** Reads the events of a streamed answer into `reply`, and shows it. */
async function stream(body, reply, element) {
  const request = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await call('/v1/chat/completions', request, running.signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let began = null;
  let tokens = 0;
  let planned = false;
  const show = () => {
    planned = false;
    fill(element, reply);
    toEnd(false);
  };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    rest += value;
    const events = rest.split('\n\n');
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith('data: ') || event === 'data: [DONE]') continue;
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      const text = chunk.choices[0]?.delta.content;
      if (text) {
        began ??= performance.now();
        reply.content += text;
      }
      const reason = chunk.choices[0]?.finish_reason;
      if (reason === 'length') reply.cut = true;
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    if (!planned) {
      planned = true;
      requestAnimationFrame(show);
    }
  }
  const seconds = began === null ? 0 : (performance.now() - began) / 1000;
  const speed = tokens > 1 && seconds > 0 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : '';
  reply.note = `${tokens} tokens${speed}${reply.cut ? ', cut off at the limit' : ''}`;
}

/** Scrolls to the end, unless the user has scrolled up. */
function toEnd(always) {
  const talk = el('talk');
  if (always || talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120) talk.scrollTop = talk.scrollHeight;
}

// Files of `chat`: /save writes them, --load and /load read them

function exportFile() {
  const complete = current.messages.slice();
  if (complete.at(-1)?.role === 'user') complete.pop();
  if (complete.length === 0) return note('There is nothing to export yet.');
  const system = current.system.trim() ? [{ role: 'system', content: current.system }] : [];
  const set = { ...props.default_generation_settings, ...settings() };
  const file = {
    format: 'tulu-quant conversation',
    version: 1,
    title: titleOf(current),
    saved_at: Math.floor(Date.now() / 1000),
    model: props.conversation_model ?? { file: '', fingerprint: '', template_sha256: '' },
    settings: { ...set, seed: set.seed ?? 0 },
    first_sent: 0,
    messages: [...system, ...complete.map(({ role, content }) => ({ role, content }))],
  };
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([`${JSON.stringify(file, null, 2)}\n`], { type: 'application/json' }));
  link.download = `${titleOf(current).replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40) || 'conversation'}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function importFile(file) {
  try {
    const data = JSON.parse(await file.text());
    if (data.format !== 'tulu-quant conversation') throw new Error('it is not a conversation that /save wrote');
    const messages = data.messages.map(({ role, content }) => ({ role: String(role), content: String(content) }));
    const system = messages[0]?.role === 'system' ? messages.shift().content : '';
    if (!messages.every((message) => ['user', 'assistant'].includes(message.role))) throw new Error('it has an unknown role');
    const kept = Object.entries(data.settings ?? {}).filter(([name]) => SETTINGS.includes(name));
    const talk = { id: newId(), messages, system, settings: Object.fromEntries(kept), at: Date.now() };
    conversations.unshift(talk);
    save();
    open(talk);
  } catch (error) {
    note(`The file cannot be imported: ${error.message}`);
  }
}

// The rest of the page

function showSettings(shown) {
  el('settings').hidden = !shown;
  el('options').setAttribute('aria-expanded', String(shown));
}

function showList(shown) {
  el('side').classList.toggle('shown', shown);
  el('shade').hidden = !shown;
  el('menu').setAttribute('aria-expanded', String(shown));
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  el('theme').textContent = name === 'dark' ? 'Light' : 'Dark';
}

async function load() {
  try {
    const { slots, queue } = await (await call('/health')).json();
    const waiting = queue.length > 0 ? `, ${queue.length} waiting` : '';
    el('load').textContent = `${slots.busy} of ${slots.total} slots busy${waiting}`;
  } catch {
    el('load').textContent = 'the server does not answer';
  }
}

async function start() {
  theme(localStorage.getItem('tulu-quant.theme') ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
  el('key').value = sessionStorage.getItem('tulu-quant.key') ?? '';
  conversations.length ? open(conversations[0]) : create();
  await facts();
  load();
  setInterval(load, 3000);
}

async function facts() {
  try {
    props = await (await call('/props')).json();
    document.title = props.model;
    for (const name of SETTINGS) {
      const value = props.default_generation_settings[name];
      if (value !== undefined) el(name).placeholder = String(value);
    }
    if (current.messages.length === 0) render();
    note('');
  } catch (error) {
    note(error.message);
  }
}

el('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const content = el('input').value;
  if (running || !content.trim()) return;
  el('input').value = '';
  grow();
  current.messages.push({ role: 'user', content });
  answer();
});
el('settings').addEventListener('submit', (event) => event.preventDefault());
el('settings').addEventListener('change', () => {
  current.system = el('system').value;
  current.settings = settings();
  save();
});
el('key').addEventListener('change', () => {
  sessionStorage.setItem('tulu-quant.key', el('key').value.trim());
  facts();
});
const grow = () => {
  const input = el('input');
  input.style.height = 'auto';
  input.style.height = `${input.scrollHeight + 2}px`;
};
el('input').addEventListener('input', grow);
el('input').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    el('form').requestSubmit();
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if (running) running.abort();
  else showList(false);
});
el('stop').addEventListener('click', () => running?.abort());
el('new').addEventListener('click', create);
el('menu').addEventListener('click', () => showList(!el('side').classList.contains('shown')));
el('shade').addEventListener('click', () => showList(false));
el('options').addEventListener('click', () => showSettings(el('settings').hidden));
el('theme').addEventListener('click', () => {
  const name = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  localStorage.setItem('tulu-quant.theme', name);
  theme(name);
});
el('export').addEventListener('click', exportFile);
el('import').addEventListener('click', () => el('file').click());
el('file').addEventListener('change', () => {
  const [file] = el('file').files;
  el('file').value = '';
  if (file) importFile(file);
});
start();
