'use strict';

// Clean-up entries: the core keeps their order and that each runs once; what an
// entry stands for is kept here by its token.
const native = require('./native');
const { defineDisposal } = require('./disposal');
const { codes, failure, kindOf, requireFunction } = require('./errors');
const { isThenable, reportOnce, warn } = require('./report');

const KIND_CALLBACK = native.resourceKinds.indexOf('callback');
const KIND_OBJECT = native.resourceKinds.indexOf('object');

class ResourceTable {
  constructor(core) {
    this.core = core;
    this.entries = new Map(); // token -> { kind, run, what, shown }
    this.lastToken = 0;
    this.fileIds = new Set(); // may hold ids that have run already
    this.pending = new Set(); // promises of asynchronous clean-ups
    this.runToken = (token) => this.run(token);
    this.fileFailed = (path, errno) => this.warnOfFile(path, errno);
  }

  /** @param callback the host's function, for reports. @returns the entry. */
  add(kind, callback, run, shown, what) {
    const token = ++this.lastToken;
    const entry = { kind, callback, run, shown, what, result: undefined };
    entry.id = native.resourceAdd(this.core.handle, kind, token);
    this.entries.set(token, entry);
    return entry;
  }

  addFile(path) {
    this.fileIds.add(native.resourceAddFile(this.core.handle, pathOf(path)));
  }

  get files() {
    if (this.core.closed) return [];
    const paths = [];
    for (;;) {
      const path = native.resourceFile(this.core.handle, paths.length);
      if (path === '') return paths;
      paths.push(path);
    }
  }

  shownOf(kind) {
    return [...this.entries.values()].filter((entry) => entry.kind === kind).map((entry) => entry.shown);
  }

  // Called by the core, which has taken the entry out already.
  run(token) {
    const entry = this.entries.get(token);
    this.entries.delete(token);
    try {
      const result = entry.run();
      if (isThenable(result)) entry.result = this.follow(entry, result);
      return true;
    } catch (error) {
      reportOnce(entry.callback, entry.what, error);
      return false;
    }
  }

  follow(entry, result) {
    const settled = Promise.resolve(result)
      .catch((error) => reportOnce(entry.callback, entry.what, error))
      .then(() => {
        this.pending.delete(settled);
      });
    this.pending.add(settled);
    return settled;
  }

  warnOfFile(path, errno) {
    const [name, text] = require('util').getSystemErrorMap().get(-errno) ?? [`error ${errno}`, ''];
    warn(`temporary file ${path} could not be removed: ${name} ${text}`.trimEnd(), codes.ESYS);
  }

  /** Runs one entry now, unless it has run. @returns its promise, if it has one. */
  runNow(entry) {
    if (!this.core.closed) native.resourceRun(this.core.handle, entry.id, this.runToken, this.fileFailed);
    return entry.result;
  }

  /** Runs all, newest first. @returns promises still at work. */
  runAll() {
    const left = native.managerCleanup(this.core.handle, this.runToken, this.fileFailed);
    if (left > 0 && !this.core.closed) {
      warn(`clean-up callbacks keep adding clean-ups: ${left} were not run`, codes.EHOST);
    }
    if (this.files.length === 0) this.fileIds.clear();
    return [...this.pending];
  }

  /** At exit. A callback that ends the process never returns to its clean-up, so
   *  what that had still to do is done here. */
  runRest() {
    const ids = [...this.entries.values()].map(({ id }) => id).concat(...this.fileIds);
    for (const id of ids.sort((a, b) => b - a)) {
      if (this.core.closed) return;
      native.resourceRun(this.core.handle, id, this.runToken, this.fileFailed);
    }
  }
}

function pathOf(path) {
  if (typeof path === 'string') return path;
  if (path instanceof URL) return require('url').fileURLToPath(path);
  if (Buffer.isBuffer(path)) return path.toString();
  throw failure('ETYPE', `the path of a temporary file must be a string, a Buffer or a file: URL, not ${kindOf(path)}`);
}

/** An object of the host and the function that ends it, which runs once. */
class ManagedResource {
  #table;
  #entry;

  constructor(table, value, cleanup) {
    requireFunction(cleanup, 'the clean-up of a managed resource');
    this.value = value;
    this.#table = table;
    this.#entry = table.add(KIND_OBJECT, cleanup, () => cleanup(value), value, 'the clean-up of a managed resource');
  }

  dispose() {
    return this.#table.runNow(this.#entry);
  }

  /** Runs `body(value)` and then dispose(), also when it throws or rejects. */
  use(body) {
    let result;
    try {
      result = body(this.value);
    } catch (error) {
      this.dispose();
      throw error;
    }
    if (isThenable(result)) return this.#settle(result);
    const disposed = this.dispose();
    return isThenable(disposed) ? disposed.then(() => result) : result;
  }

  async #settle(promise) {
    try {
      return await promise;
    } finally {
      await this.dispose();
    }
  }
}

defineDisposal(ManagedResource, 'dispose');

module.exports = { KIND_CALLBACK, KIND_OBJECT, ManagedResource, ResourceTable };
