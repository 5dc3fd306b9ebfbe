'use strict';

// How one kind of cache or pool gives up entries: the adapters of caches.js.
//
// drop(cache, amount, share, onEvict) takes entries out, calls `onEvict`, which may
// be null, for each, and returns how many they were. rest() forgets what only one
// call of shrink() needs.
const { failure, kindOf } = require('./errors');
const { isThenable } = require('./report');

/** Oldest insertion first. One iterator serves a whole call, because a new one
 *  passes over all that were taken out before. */
class MapKind {
  canName = true;
  #keys = null;

  size(cache) {
    return cache.size;
  }

  valueOf(cache, key) {
    return cache.get(key);
  }

  drop(cache, amount, share, onEvict) {
    this.#keys ??= cache.keys();
    let dropped = 0;
    while (dropped < amount) {
      const { done, value: key } = this.#keys.next();
      if (done) break;
      const value = onEvict === null ? undefined : this.valueOf(cache, key);
      if (!cache.delete(key)) continue;
      dropped++;
      onEvict?.(key, value);
    }
    return dropped;
  }

  rest() {
    this.#keys = null;
  }
}

class SetKind extends MapKind {
  valueOf(cache, member) {
    return member;
  }
}

/** lru-cache: pop(), its own eviction, tells the value alone. */
class LruKind {
  canName = true;

  size(cache) {
    return cache.size;
  }

  drop(cache, amount, share, onEvict) {
    let dropped = 0;
    while (dropped < amount && cache.size > 0) {
      if (onEvict === null) {
        cache.pop();
      } else {
        const { done, value: entry } = cache.rentries().next();
        if (done) break; // what is left is stale or still being fetched
        cache.delete(entry[0]);
        onEvict(entry[0], entry[1]);
      }
      dropped++;
    }
    return dropped;
  }

  rest() {}
}

/** In the order of Object.keys(), which lists them all at once. */
class ObjectKind {
  canName = true;
  #keys = null;

  size(cache) {
    return Object.keys(cache).length;
  }

  drop(cache, amount, share, onEvict) {
    this.#keys ??= Object.keys(cache).reverse();
    let dropped = 0;
    while (dropped < amount && this.#keys.length > 0) {
      const key = this.#keys.pop();
      if (!Object.prototype.hasOwnProperty.call(cache, key)) continue;
      const value = cache[key];
      delete cache[key];
      dropped++;
      onEvict?.(key, value);
    }
    return dropped;
  }

  rest() {
    this.#keys = null;
  }
}

/** An object with shrink(share), or a function that is it. */
class OwnKind {
  canName = false;
  #sizeOf;

  constructor(sizeOf) {
    this.#sizeOf = sizeOf;
  }

  size(cache) {
    if (this.#sizeOf !== null) return this.#sizeOf(cache);
    return typeof cache !== 'function' && typeof cache.size === 'number' ? cache.size : null;
  }

  drop(cache, amount, share) {
    const before = this.size(cache);
    const result = typeof cache === 'function' ? cache(share) : cache.shrink(share);
    return amountOf(result, before, () => this.size(cache));
  }

  rest() {}
}

/** A pool with a trimming function. */
class PoolKind {
  canName = false;
  #trim;

  constructor(trim) {
    this.#trim = trim;
  }

  stats(pool) {
    const found = typeof pool?.getStats === 'function' ? pool.getStats() : null;
    return { active: found?.active ?? null, idle: found?.idle ?? null };
  }

  size(pool) {
    return this.stats(pool).idle;
  }

  drop(pool, amount, share) {
    const before = this.size(pool);
    const result = this.#trim === null ? pool.trim(share) : Reflect.apply(this.#trim, pool, [share]);
    return amountOf(result, before, () => this.size(pool));
  }

  rest() {}
}

/** What was given up, as told or else as seen; a promise of it. */
function amountOf(result, before, size) {
  if (isThenable(result)) return result.then((settled) => amountOf(settled, before, size));
  if (Number.isFinite(result)) return Math.max(0, result);
  const after = size();
  return typeof before === 'number' && typeof after === 'number' ? Math.max(0, before - after) : 0;
}

function has(cache, ...names) {
  return names.every((name) => typeof cache[name] === 'function');
}

function isPlain(cache) {
  const prototype = Object.getPrototypeOf(cache);
  return prototype === null || prototype === Object.prototype;
}

function kindFor(cache, sizeOf) {
  if (Object(cache) === cache) {
    if (has(cache, 'shrink')) return new OwnKind(sizeOf);
    if (cache instanceof Map) return new MapKind();
    if (cache instanceof Set) return new SetKind();
    if (has(cache, 'pop', 'delete', 'rentries') && typeof cache.size === 'number') return new LruKind();
    if (typeof cache === 'function') return new OwnKind(sizeOf);
    if (isPlain(cache)) return new ObjectKind();
  }
  throw failure('ETYPE', 'a cache must be a Map, a Set, a plain object, an lru-cache, an object with '
    + `shrink(share) or a function, not ${kindOf(cache)}`);
}

module.exports = { OwnKind, PoolKind, kindFor };
