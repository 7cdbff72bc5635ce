// Shows Markdown with DOM nodes. Text of the model only becomes text nodes, so it cannot add elements of its own.

/** Appends `text` as Markdown to `parent`. */
export function markdown(parent, text) {
  const lines = text.split('\n');
  let i = 0;
  while (i < lines.length) {
    const line = lines[i];
    const fence = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = /^\s*([-*+]|\d{1,9}[.)])\s+/.exec(line);
    if (fence) {
      const inside = [];
      i += 1;
      while (i < lines.length && !lines[i].trim().startsWith(fence[1])) inside.push(lines[i++]);
      i += 1;
      code(parent, inside.join('\n'), fence[2]);
    } else if (heading) {
      inline(add(parent, `h${Math.min(6, heading[1].length + 1)}`), heading[2]);
      i += 1;
    } else if (item) {
      i = list(parent, lines, i);
    } else if (/^\s*>/.test(line)) {
      const inside = [];
      while (i < lines.length && /^\s*>/.test(lines[i])) inside.push(lines[i++].replace(/^\s*> ?/, ''));
      markdown(add(parent, 'blockquote'), inside.join('\n'));
    } else if (/^\s*\|.*\|\s*$/.test(line) && /^\s*\|[\s:|-]+\|\s*$/.test(lines[i + 1] ?? '')) {
      i = table(parent, lines, i);
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      add(parent, 'hr');
      i += 1;
    } else if (line.trim() === '') {
      i += 1;
    } else {
      const inside = [];
      while (i < lines.length && lines[i].trim() !== '' && !/^\s*(```|~~~|#{1,6}\s|>|[-*+]\s|\d{1,9}[.)]\s)/.test(lines[i])) {
        inside.push(lines[i++]);
      }
      if (inside.length === 0) inside.push(lines[i++]);
      inline(add(parent, 'p'), inside.join('\n'));
    }
  }
}

function add(parent, name) {
  return parent.appendChild(document.createElement(name));
}

function code(parent, text, language) {
  const block = add(parent, 'pre');
  const inner = add(block, 'code');
  inner.textContent = text;
  if (language) inner.dataset.language = language;
  const copy = add(block, 'button');
  copy.type = 'button';
  copy.textContent = 'Copy';
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = 'Copied';
  });
}

/** Appends the list that begins at line `i`; deeper lines belong to its items. Returns the line after it. */
function list(parent, lines, i) {
  const first = /^(\s*)([-*+]|\d{1,9}[.)])\s+/.exec(lines[i]);
  const depth = first[1].length;
  const ordered = /\d/.test(first[2]);
  const element = add(parent, ordered ? 'ol' : 'ul');
  if (ordered && parseInt(first[2], 10) !== 1) element.start = parseInt(first[2], 10);
  while (i < lines.length) {
    const item = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/.exec(lines[i]);
    if (!item || item[1].length !== depth || /\d/.test(item[2]) !== ordered) break;
    const inside = [item[3]];
    i += 1;
    while (i < lines.length && (/^\s+\S/.test(lines[i]) && lines[i].search(/\S/) > depth)) {
      inside.push(lines[i++].replace(/^ {1,4}|^\t/, ''));
    }
    const entry = add(element, 'li');
    if (inside.length === 1) inline(entry, inside[0]);
    else markdown(entry, inside.join('\n'));
    while (i + 1 < lines.length && lines[i].trim() === '' && /^\s*([-*+]|\d{1,9}[.)])\s/.test(lines[i + 1])) i += 1;
  }
  return i;
}

function table(parent, lines, i) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
  const element = add(parent, 'table');
  const head = add(add(element, 'thead'), 'tr');
  cells(lines[i]).forEach((cell) => inline(add(head, 'th'), cell));
  const body = add(element, 'tbody');
  i += 2;
  while (i < lines.length && /^\s*\|.*\|\s*$/.test(lines[i])) {
    const row = add(body, 'tr');
    cells(lines[i++]).forEach((cell) => inline(add(row, 'td'), cell));
  }
  return i;
}

const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*([^*]+?)\*\*|__([^_]+?)__|\*([^*\s][^*]*?)\*|\b_([^_\s][^_]*?)_\b|~~([^~]+)~~|\[([^\]]+)\]\(([^)\s]+)\)|(https?:\/\/[^\s<>()]+)/;

/** Appends `text` with code, emphasis and links. */
function inline(parent, text) {
  let rest = text;
  for (;;) {
    const found = INLINE.exec(rest);
    if (!found) break;
    parent.append(rest.slice(0, found.index));
    rest = rest.slice(found.index + found[0].length);
    const [whole, , code, bold, bold2, italic, italic2, struck, label, target, address] = found;
    if (code !== undefined) add(parent, 'code').textContent = code.trim();
    else if (bold ?? bold2) inline(add(parent, 'strong'), bold ?? bold2);
    else if (italic ?? italic2) inline(add(parent, 'em'), italic ?? italic2);
    else if (struck) inline(add(parent, 's'), struck);
    else link(parent, label ?? address, target ?? address, whole);
  }
  parent.append(rest);
}

/** Appends a link, if its target is a web page or an address; otherwise the text as it was. */
function link(parent, label, target, whole) {
  if (!/^(https?:\/\/|mailto:)/i.test(target)) {
    parent.append(whole);
    return;
  }
  const element = add(parent, 'a');
  element.href = target;
  element.rel = 'noopener noreferrer';
  element.target = '_blank';
  element.textContent = label;
}
