'use strict';

// Where a JSON text goes wrong. JSON.parse does not say it in every version of
// Node, and quotes the text; this is asked only once it has refused one.

const SPACE = /[\t\n\r ]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
// eslint-disable-next-line no-control-regex -- JSON forbids exactly these
const PIECE = /[^"\\\u0000-\u001f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

/** The end of what `pattern` matches at `at`; `at` if it does not. */
function matched(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

class Scan {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.closers = [];
    this.step = this.value;
  }

  /** Each step returns the next one, null where the text is wrong. */
  position() {
    while (this.step !== null) {
      this.at = matched(SPACE, this.text, this.at);
      if (this.at >= this.text.length) break;
      this.step = this.step(this.text[this.at]);
    }
    return this.at;
  }

  open(closer, next) {
    this.closers.push(closer);
    this.at++;
    return next;
  }

  close() {
    this.closers.pop();
    this.at++;
    return this.after;
  }

  value(first) {
    if (first === '{') return this.open('}', this.firstKey);
    if (first === '[') return this.open(']', this.firstItem);
    if (first === '"') return this.string() ? this.after : null;
    const end = Math.max(matched(NUMBER, this.text, this.at), matched(WORD, this.text, this.at));
    if (end === this.at) return null;
    this.at = end;
    return this.after;
  }

  firstItem(first) {
    return first === ']' ? this.close() : this.value(first);
  }

  firstKey(first) {
    return first === '}' ? this.close() : this.key(first);
  }

  key(first) {
    return first === '"' && this.string() ? this.colon : null;
  }

  colon(first) {
    if (first !== ':') return null;
    this.at++;
    return this.value;
  }

  after(first) {
    const closer = this.closers.at(-1);
    if (closer !== undefined && first === closer) return this.close();
    if (closer === undefined || first !== ',') return null;
    this.at++;
    return closer === '}' ? this.key : this.value;
  }

  string() {
    for (this.at++; this.text[this.at] !== '"'; ) {
      const end = matched(PIECE, this.text, this.at);
      if (end === this.at) return false;
      this.at = end;
    }
    this.at++;
    return true;
  }
}

/** Characters before the first one that cannot be; all of them if the text ends
 *  too early. */
function jsonErrorPosition(text) {
  return new Scan(text).position();
}

module.exports = { jsonErrorPosition };
