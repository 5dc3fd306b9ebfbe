'use strict';

// How many objects of each type are alive. V8's inspector hands out all of them at
// once: a full collection, then one walk over the heap, about as long as one
// v8.queryObjects() takes for a single constructor, and without its warning on
// stderr. So suspects need not be guessed. It still stops this thread for up to
// 10 ms per MB of live heap, so the caller bounds the heap it is used on.
//
// Only names leave this file. Code of the host is never run on the way: no getter,
// no proxy trap, no toString(). Objects without a prototype and values that are no
// objects (strings, numbers) are not seen.
const EventEmitter = require('events');
const { types } = require('util');
const native = require('./native');
const { Session, isOurs } = require('./inspect');

const HANDOVER = Symbol.for('memguard.objects');
const MAX_TYPES = 100_000; // distinct names; the rest is counted as OTHER
const OTHER = '(other)';
const MAX_LENGTH = 2 ** 26; // of an array whose elements exist
const NAME_MAX = 159;
const GROUP = 'memguard';

// What events are called is the host's affair, unless the name is everybody's.
const KNOWN_EVENTS = new Set([
  'abort', 'beforeExit', 'change', 'close', 'connect', 'connection', 'data', 'disconnect', 'drain', 'end', 'error',
  'exit', 'finish', 'listening', 'lookup', 'message', 'open', 'pause', 'pipe', 'ready', 'readable', 'request',
  'response', 'resume', 'secureConnect', 'session', 'socket', 'stream', 'timeout', 'uncaughtException',
  'unhandledRejection', 'unpipe', 'upgrade', 'warning', 'SIGHUP', 'SIGINT', 'SIGTERM', 'SIGUSR2',
]);

const { getOwnPropertyDescriptor, getPrototypeOf } = Object;
const sizeOfMap = getOwnPropertyDescriptor(Map.prototype, 'size').get;
const sizeOfSet = getOwnPropertyDescriptor(Set.prototype, 'size').get;

function dataOf(object, key) {
  if (types.isProxy(object)) return undefined;
  return getOwnPropertyDescriptor(object, key)?.value;
}

/** A name fit for a report: of bounded length, without control characters. */
function cleanName(name) {
  // eslint-disable-next-line no-control-regex
  return name.slice(0, NAME_MAX).replace(/[\u0000-\u001f\u007f]/g, '?');
}

/** The name of the class whose instances have that prototype. */
function typeNameOf(prototype) {
  for (let at = prototype; at !== null && !types.isProxy(at); at = getPrototypeOf(at)) {
    const constructor = dataOf(at, 'constructor');
    const name = typeof constructor === 'function' ? dataOf(constructor, 'name') : undefined;
    if (typeof name === 'string' && name !== '') return cleanName(name);
  }
  return '(anonymous)';
}

/** Counts by name, of a bounded number of names. Itself it is not counted. */
class Tally extends Map {
  add(name, count) {
    const held = this.get(name);
    if (held !== undefined || this.size < MAX_TYPES) this.set(name, (held ?? 0) + count);
    else this.set(OTHER, (this.get(OTHER) ?? 0) + count);
  }
}

function listenersOf(events, type, tally) {
  if (Object(events) !== events || types.isProxy(events)) return;
  for (const name of Object.keys(events)) {
    const held = dataOf(events, name);
    const count = typeof held === 'function' ? 1 : dataOf(held ?? [], 'length') ?? 0;
    tally.add(`${type} '${KNOWN_EVENTS.has(name) ? name : OTHER}'`, count);
  }
}

class ObjectCount {
  types = new Tally(); // of objects
  entries = new Tally(); // of maps, sets and arrays, all together
  listeners = new Tally(); // by type of the emitter and name of the event
  #kinds = new Tally(); // prototype -> what is known of its objects

  #kindOf(prototype) {
    let kind = this.#kinds.get(prototype);
    if (kind === undefined) {
      let isEmitter = false;
      for (let at = prototype; at !== null && !types.isProxy(at) && !isEmitter; at = getPrototypeOf(at)) {
        isEmitter = at === EventEmitter.prototype;
      }
      kind = { count: 0, name: typeNameOf(prototype), isEmitter };
      this.#kinds.set(prototype, kind);
    }
    return kind;
  }

  /** Takes in a list of objects; other counts and what counts are not among them. */
  take(objects) {
    for (let index = 0; index < objects.length; index++) {
      const object = objects[index];
      if (types.isProxy(object) || getPrototypeOf(object) === Tally.prototype || isOurs(object)) continue;
      const kind = this.#kindOf(getPrototypeOf(object));
      kind.count++;
      if (kind.isEmitter) listenersOf(dataOf(object, '_events'), kind.name, this.listeners);
      else if (types.isMap(object)) this.entries.add('Map', sizeOfMap.call(object));
      else if (types.isSet(object)) this.entries.add('Set', sizeOfSet.call(object));
      else if (Array.isArray(object) && object.length < MAX_LENGTH) this.entries.add('Array', object.length);
    }
  }

  end() {
    for (const { name, count } of this.#kinds.values()) this.types.add(name, count);
    this.#kinds.clear();
  }
}

// Where modules run in a realm of their own, as under jest, there are objects of two
// realms: Node's and its own. Each has its own Object.prototype, and answers only to
// who asks from inside. The inspector also lists realms that are dead, and asking in
// one ends the process: so nothing is asked but in these two, and the number of our
// own is that of a script which we compile there.
const NODE_REALM = 'Object.getPrototypeOf(Object.getPrototypeOf(process)).constructor[Symbol.for("memguard.objects")]';
const OWN_REALM = 'globalThis[Symbol.for("memguard.objects")]';

let ownRealm; // its number

function findOwnRealm(session) {
  const name = `memguard-realm-${process.pid}-${process.hrtime.bigint()}`;
  const scripts = session.announced('Debugger.scriptParsed', () => {
    session.post('Debugger.enable');
    Function(`//# sourceURL=${name}\n`);
    session.post('Debugger.disable');
  });
  return scripts.find(({ url }) => url === name).executionContextId;
}

/** The collector of counts as it is seen in that realm (none given: Node's). */
function handoverIn(session, expression, realm) {
  return session.post('Runtime.evaluate', { ...realm, expression, silent: true, objectGroup: GROUP }).result.objectId;
}

function queryRealm(session, realm, objectId) {
  const within = { silent: true, objectGroup: GROUP };
  const root = session.post('Runtime.evaluate', { ...realm, expression: 'Object.prototype', ...within }).result;
  const { objects } = session.post('Runtime.queryObjects', { prototypeObjectId: root.objectId, objectGroup: GROUP });
  session.post('Runtime.callFunctionOn', {
    objectId, functionDeclaration: 'function (objects) { this.take(objects); }', arguments: [{ objectId: objects.objectId }], ...within,
  });
  session.post('Runtime.releaseObjectGroup', { objectGroup: GROUP });
}

function queryAll(session) {
  queryRealm(session, {}, handoverIn(session, NODE_REALM, {}));
  if (getPrototypeOf(EventEmitter.prototype) === Object.prototype) return;
  ownRealm ??= findOwnRealm(session);
  const realm = { contextId: ownRealm };
  queryRealm(session, realm, handoverIn(session, OWN_REALM, realm));
}

/** Counts all living objects, now.
 *  @returns { types, entries, listeners }, each a Map of counts by name.
 *  @throws EABSENT where the inspector cannot be used. */
function countObjects() {
  const count = new ObjectCount();
  const session = new Session();
  const places = [globalThis, EventEmitter];
  try {
    for (const place of places) Object.defineProperty(place, HANDOVER, { configurable: true, value: count });
    queryAll(session);
    count.end();
  } finally {
    for (const place of places) delete place[HANDOVER];
    session.close();
    native.trimMalloc(); // V8 took more than 100 bytes for each object meanwhile
  }
  return { types: count.types, entries: count.entries, listeners: count.listeners };
}

module.exports = { Tally, cleanName, countObjects };
