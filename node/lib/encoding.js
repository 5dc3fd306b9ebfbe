'use strict';

// Text and base64 in memory of the pool. Whether input is valid is decided by
// Node's own vectorised functions; where it is wrong is looked for afterwards,
// in input that was refused.
const { isAscii, isUtf8 } = require('buffer');
const { failure, kindOf, requireName } = require('./errors');
const { sharedPool } = require('./memory_pool');
const { rentOf } = require('./rental');

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const isWellFormed = String.prototype.isWellFormed;

/** A Buffer over the bytes of `view`; no copy. */
function bytesOf(view, what) {
  if (Buffer.isBuffer(view)) return view;
  if (ArrayBuffer.isView(view)) return Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  if (view instanceof ArrayBuffer) return Buffer.from(view);
  if (Buffer.isBuffer(view?.buffer) && typeof view.return === 'function') return view.buffer; // a rental
  throw failure('ETYPE', `${what} must be bytes (Buffer, typed array or rental), not ${kindOf(view)}`);
}

/* ---- UTF-8 ------------------------------------------------------------------ */

/** Index of the first surrogate without its partner, -1 if there is none. */
function loneSurrogate(text) {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at) & 0xfc00;
    if (unit === 0xdc00) return at;
    if (unit === 0xd800 && (text.charCodeAt(++at) & 0xfc00) !== 0xdc00) return at - 1;
  }
  return -1;
}

function requireWellFormed(text) {
  requireName(text, 'the text');
  if (isWellFormed !== undefined && isWellFormed.call(text)) return;
  const at = loneSurrogate(text);
  if (at >= 0) throw failure('EENCODING', `a lone surrogate at position ${at} of the text cannot become UTF-8`);
}

// Bytes a sequence has by its first byte, and the range its second one is in:
// table 3-7 of the Unicode standard.
function sequenceAt(first) {
  if (first < 0x80) return [1, 0, 0];
  if (first < 0xc2 || first > 0xf4) return [0, 0, 0];
  if (first < 0xe0) return [2, 0x80, 0xbf];
  if (first < 0xf0) return [3, first === 0xe0 ? 0xa0 : 0x80, first === 0xed ? 0x9f : 0xbf];
  return [4, first === 0xf0 ? 0x90 : 0x80, first === 0xf4 ? 0x8f : 0xbf];
}

/** Where the first sequence that is not UTF-8 begins; the length if there is none. */
function invalidUtf8(bytes) {
  let at = 0;
  while (at < bytes.length) {
    const [length, least, most] = sequenceAt(bytes[at]);
    if (length === 0 || at + length > bytes.length) return at;
    if (length > 1 && (bytes[at + 1] < least || bytes[at + 1] > most)) return at;
    for (let next = 2; next < length; next++) if ((bytes[at + next] & 0xc0) !== 0x80) return at;
    at += length;
  }
  return at;
}

function decode(bytes) {
  // Latin-1 is the short way for what most messages are.
  if (isAscii === undefined) return strict.decode(bytes);
  if (isAscii(bytes)) return bytes.latin1Slice(0, bytes.length);
  return isUtf8(bytes) ? bytes.utf8Slice(0, bytes.length) : strict.decode(bytes);
}

function utf8Decode(view) {
  const bytes = bytesOf(view, 'what is decoded');
  try {
    return decode(bytes);
  } catch {
    throw failure('EENCODING', `byte ${invalidUtf8(bytes)} does not begin a valid UTF-8 sequence`);
  }
}

function utf8Encode(text, pool = sharedPool()) {
  requireWellFormed(text);
  const length = Buffer.byteLength(text);
  const rental = rentOf(pool, length);
  rental.buffer.utf8Write(text, 0, length);
  return rental;
}

/** @returns bytes written, null if they do not fit: then nothing was written. */
function tryUtf8EncodeInto(text, destination) {
  requireWellFormed(text);
  const bytes = bytesOf(destination, 'the destination');
  if (text.length > bytes.length) return null;
  // Three bytes for a unit of UTF-16 are the most there can be.
  if (text.length * 3 > bytes.length && Buffer.byteLength(text) > bytes.length) return null;
  return bytes.utf8Write(text, 0, bytes.length);
}

function utf8EncodeInto(text, destination) {
  const written = tryUtf8EncodeInto(text, destination);
  if (written !== null) return written;
  throw failure('ERANGE', `the destination has ${bytesOf(destination).length} bytes, needed: ${Buffer.byteLength(text)}`);
}

/* ---- base64 ------------------------------------------------------------------ */

const STANDARD = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const ALPHABETS = { false: STANDARD, true: `${STANDARD.slice(0, 62)}-_` };
const FOREIGN = { false: ['-', '_'], true: ['+', '/'] }; // Node's decoder takes both
const CHUNK = 12288; // a multiple of 3: strings of 16 KB, which V8 makes in its nursery

function base64Encode(data, pool = sharedPool(), urlSafe = false) {
  const bytes = bytesOf(data, 'what is encoded');
  const rental = rentOf(pool, 4 * Math.ceil(bytes.length / 3));
  const target = rental.buffer;
  let to = 0;
  for (let from = 0; from < bytes.length; from += CHUNK) {
    const end = Math.min(from + CHUNK, bytes.length);
    const text = urlSafe ? bytes.base64urlSlice(from, end) : bytes.base64Slice(from, end);
    to += target.latin1Write(text, to, text.length);
  }
  target.fill('=', to); // base64url of Node leaves them out
  return rental;
}

/** The first position that keeps `text` from being base64, with the reason. */
function wrongBase64(text, alphabet, padding) {
  const end = text.length - padding;
  for (let at = 0; at < end; at++) {
    if (!alphabet.includes(text[at])) {
      return [at, text[at] === '=' ? 'padding' : 'a character that is not of the alphabet'];
    }
  }
  if (text.length % 4 !== 0) return [text.length, `the end: the length ${text.length} is no multiple of 4`];
  return [end - 1, 'bits that are not zero before the padding'];
}

function paddingOf(text) {
  if (text.endsWith('==')) return 2;
  return text.endsWith('=') ? 1 : 0;
}

/** Whether the bits that the last character has beyond the last byte are zero. */
function hasCleanEnd(text, alphabet, padding) {
  if (padding === 0) return true;
  return (alphabet.indexOf(text[text.length - padding - 1]) & (padding === 2 ? 15 : 3)) === 0;
}

function textOf(data) {
  if (typeof data === 'string') return data;
  const bytes = bytesOf(data, 'what is decoded');
  return bytes.latin1Slice(0, bytes.length);
}

function base64Decode(data, pool = sharedPool(), urlSafe = false) {
  const text = textOf(data);
  const alphabet = ALPHABETS[Boolean(urlSafe)];
  const padding = paddingOf(text);
  const length = Math.floor(text.length / 4) * 3 - padding;
  const refuse = () => {
    const [at, what] = wrongBase64(text, alphabet, padding);
    return failure('EENCODING', `not base64${urlSafe ? ' (url-safe)' : ''}: position ${at} is ${what}`);
  };
  if (text.length % 4 !== 0 || !hasCleanEnd(text, alphabet, padding)) throw refuse();
  if (FOREIGN[Boolean(urlSafe)].some((character) => text.includes(character))) throw refuse();
  const rental = rentOf(pool, length);
  // The decoder passes over what it does not know: then bytes are missing. A
  // character above Latin-1 it would take for the one with the same low byte.
  if (rental.buffer.base64Write(text, 0, length) === length && Buffer.byteLength(text, 'utf8') === text.length) return rental;
  rental.return();
  throw refuse();
}

const functions = Object.freeze({ base64Decode, base64Encode, tryUtf8EncodeInto, utf8Decode, utf8Encode, utf8EncodeInto });

module.exports = { bytesOf, functions, ...functions };
