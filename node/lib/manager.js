'use strict';

// ResourceManager: a monitor, buffers and clean-up for one program.
//
// Life: open -> cleanup() -> open again at the next use (with one warning) ->
// close(), after which every use throws. An open manager is kept alive and
// cleaned up when the process exits.
const native = require('./native');
const { BufferManager, BufferTable } = require('./buffers');
const { Core, GENERATION } = require('./core');
const { codes, failure, requireFunction } = require('./errors');
const { defineDisposal } = require('./disposal');
const { hold, letGo } = require('./live');
const { MemoryMonitor } = require('./monitor');
const { KIND_CALLBACK, KIND_OBJECT, ManagedResource, ResourceTable } = require('./resources');
const { BYTES_PER_MB } = require('./sample');
const { warn } = require('./report');

const OPEN = 'open';
const CLEANED = 'cleaned';
const CLOSED = 'closed';
const REOPEN = Symbol('reopen');

const row = new Float64Array(7);

function orNull(number) {
  return Number.isNaN(number) ? null : number;
}

/** What getResourceStats() answers. */
class ResourceStats {
  constructor(stats) {
    const [rss, peak, files, buffers, tempFiles, collections, lastCleanup] = stats;
    this.memoryUsageMb = orNull(rss / BYTES_PER_MB);
    this.bufferCount = buffers;
    this.fileHandles = orNull(files);
    this.tempFiles = tempFiles;
    this.peakMemoryMb = orNull(peak / BYTES_PER_MB);
    this.gcCollections = collections;
    this.lastCleanupTime = lastCleanup;
  }
}

/** Kinds of resources. */
const ResourceType = Object.freeze({
  MEMORY: 'memory',
  FILE_HANDLE: 'file_handle',
  TEMP_FILE: 'temp_file',
  BUFFER: 'buffer',
  NETWORK: 'network',
});

class ResourceManager {
  #core;
  #buffers;
  #resources;
  #state = OPEN;
  #cleaning = null; // promise of a clean-up that waits for asynchronous sinks
  #hasCaches = false;
  #heapTuner = null;
  #isTuned = false; // by the setting
  #isDetecting = false; // the same
  #pool = null;

  constructor(config = {}, options = {}) {
    this.#core = new Core(config, options);
    this.#buffers = new BufferTable(this.#core);
    this.#resources = new ResourceTable(this.#core);
    this.#core.onPass = (pressure) => this.#buffers.relieve(pressure);
    this.#core.onChange = () => this.#changed();
    this.memoryMonitor = new MemoryMonitor(this.#core, { shed: () => this.#buffers.flushSinks() });
    this.bufferManager = new BufferManager(this.#buffers);
    this.#begin();
  }

  #begin() {
    this.#state = OPEN;
    hold(this, () => this.#endAtExit());
    try {
      this.#core.start();
    } catch (error) {
      // No thread to be had: checks by the program itself go on working.
      if (error.code !== codes.ESYS) {
        letGo(this);
        throw error;
      }
      warn(`memory is not sampled in the background: ${error.message}`, codes.ESYS);
    }
    this.#followSettings();
  }

  #followSettings() {
    this.#followAutoTune();
    this.#followLeakDetection();
  }

  #followLeakDetection() {
    const wanted = this.#state === OPEN && this.#core.settings.leak.leakDetection;
    if (wanted === this.#isDetecting) return;
    if (wanted) this.leakDetector.start();
    else this.leakDetector.stop();
    this.#isDetecting = wanted;
  }

  // A tuner that the program itself has started is its own affair.
  #followAutoTune() {
    const wanted = this.#state === OPEN && this.#core.settings.memory.autoTune;
    if (wanted === this.#isTuned) return;
    if (wanted) this.heapTuner.start();
    else this.#heapTuner.stop();
    this.#isTuned = wanted;
  }

  // Before anything that a later clean-up has to undo.
  #use() {
    if (this.#state === OPEN) return;
    if (this.#state === CLOSED) throw failure('ECLOSED', 'ResourceManager used after close()');
    warn('ResourceManager is used again after cleanup()');
    this.#begin();
  }

  /** For StageBase: ready again after cleanup(), as intended. */
  [REOPEN]() {
    if (this.#state === CLEANED) this.#begin();
    else this.#use();
  }

  /* ---- buffers ---------------------------------------------------------------- */

  createBuffer(name, sink) {
    this.#use();
    return this.#buffers.open(name, sink).items;
  }

  // The hot path: a look-up, two atomic loads, two comparisons.
  shouldFlushBuffer(name) {
    const buffers = this.#buffers;
    const core = this.#core;
    const buffer = buffers.byName.get(name);
    if (buffer === undefined) return buffers.find(name); // throws
    if (++core.operations >= core.nextCheck) core.checkOperations();
    if (Atomics.load(core.words, GENERATION) !== buffers.generation) buffers.refresh();
    const { length } = buffer.items;
    if (length > buffer.maxLength) buffer.maxLength = length;
    return length > 0 && length >= buffer.flushAt;
  }

  flushBuffer(name) {
    return this.#buffers.flush(this.#buffers.find(name));
  }

  /* ---- clean-up entries ----------------------------------------------------------- */

  registerTempFile(path) {
    this.#use();
    this.#resources.addFile(path);
  }

  registerCleanupCallback(callback) {
    requireFunction(callback, 'a clean-up callback');
    this.#use();
    this.#resources.add(KIND_CALLBACK, callback, () => callback(), callback, 'a clean-up callback');
  }

  managedResource(value, cleanup, body) {
    this.#use();
    if (body !== undefined) requireFunction(body, 'the body of a managed resource');
    const resource = new ManagedResource(this.#resources, value, cleanup);
    return body === undefined ? resource : resource.use(body);
  }

  registerCache(cache, options = {}) {
    this.#use();
    this.#hasCaches = true;
    return require('./caches').register(cache, options, this);
  }

  /** Made when first asked for. */
  get heapTuner() {
    if (this.#heapTuner === null) {
      const { HeapTuner } = require('./tuning');
      this.#heapTuner = new HeapTuner(this.memoryMonitor);
    }
    return this.#heapTuner;
  }

  /** Made when first asked for; runs with the manager. */
  get leakDetector() {
    return this.memoryMonitor.leakDetector;
  }

  /** Made when first asked for. */
  get pool() {
    this.#use();
    if (this.#pool === null) {
      const { MemoryPool } = require('./memory_pool');
      this.#pool = new MemoryPool(undefined, undefined, this.#core.config);
    }
    return this.#pool;
  }

  get tempFiles() {
    return this.#resources.files;
  }

  get cleanupCallbacks() {
    return this.#resources.shownOf(KIND_CALLBACK);
  }

  get managedResources() {
    return this.#resources.shownOf(KIND_OBJECT);
  }

  /* ---- memory ------------------------------------------------------------------------ */

  getMemoryPressure() {
    return this.memoryMonitor.checkMemoryPressure();
  }

  getResourceStats() {
    native.managerStats(this.#core.handle, row);
    return new ResourceStats(row);
  }

  /* ---- settings ------------------------------------------------------------------------ */

  get config() {
    return this.#core.given;
  }

  get settings() {
    return this.#core.settings;
  }

  get segmentPath() {
    return this.memoryMonitor.segmentPath;
  }

  updateConfig(changes) {
    this.#core.update(changes);
  }

  #changed() {
    this.#buffers.refresh();
    this.#followSettings();
    if (this.#pool !== null && !this.#pool.closed) this.#pool[require('./memory_pool').CONFIGURE](this.#core.config);
  }

  /* ---- end --------------------------------------------------------------------------------- */

  get isClosed() {
    return this.#state === CLOSED;
  }

  cleanup() {
    if (this.#cleaning !== null) return this.#cleaning;
    if (this.#core.closed) return Promise.resolve();
    const flushes = this.#buffers.endAll();
    // Clean-ups wait for sinks at work, which may need what they would end.
    if (flushes.length > 0) return this.#cleanUpAfter(flushes);
    return this.#cleanUp();
  }

  #cleanUpAfter(flushes) {
    this.#cleaning = Promise.all(flushes).then(() => {
      this.#cleaning = null;
      return this.#core.closed ? undefined : this.#cleanUp();
    });
    return this.#cleaning;
  }

  #cleanUp() {
    const pending = this.#resources.runAll();
    if (this.#hasCaches) require('./caches').unregisterOf(this);
    if (!this.#core.closed) this.#settle();
    return Promise.all(pending).then(() => {});
  }

  #settle() {
    this.#core.stop();
    this.#heapTuner?.stop();
    this.#isTuned = false;
    if (this.#isDetecting) this.leakDetector.stop();
    this.#isDetecting = false;
    if (this.#state === OPEN) this.#state = CLEANED;
    letGo(this);
  }

  close() {
    if (this.#state === CLOSED) return this.#cleaning ?? Promise.resolve();
    const cleaned = this.cleanup();
    this.#state = CLOSED;
    if (this.#cleaning !== null) return cleaned.then(() => this.#end());
    this.#end();
    return cleaned;
  }

  #end() {
    if (this.#core.closed) return;
    this.#buffers.giveUpAll();
    this.#pool?.close();
    this.memoryMonitor.shutdown();
    this.#core.close();
  }

  // The last chance: nothing asynchronous goes on after this.
  #endAtExit() {
    this.#buffers.endAll();
    this.#resources.runAll();
    this.#resources.runRest();
    this.#state = CLOSED;
    this.#end();
  }
}

defineDisposal(ResourceManager);

module.exports = { REOPEN, ResourceManager, ResourceStats, ResourceType };
