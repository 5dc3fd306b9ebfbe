'use strict';

// StageBase: a stage of a pipeline that owns a ResourceManager.
const { defineDisposal } = require('./disposal');
const { REOPEN, ResourceManager } = require('./manager');
const { isThenable, reportOnce } = require('./report');

class StageBase {
  constructor(config = {}, options = {}) {
    this.config = config ?? {};
    const { resourceManager, resource_manager: inSnakeCase } = this.config;
    this.resourceManager = new ResourceManager(resourceManager ?? inSnakeCase ?? {}, options);
    this._initialized = false;
  }

  /** Makes the stage ready, also again after cleanup(). */
  initialize() {
    this.resourceManager[REOPEN]();
    this._initialized = true;
    return true;
  }

  /** For subclasses: ends what the stage itself opened. */
  _cleanupStageSpecific() {}

  cleanup() {
    return this.#end(() => this.resourceManager.cleanup());
  }

  close() {
    if (this.resourceManager.isClosed) return Promise.resolve();
    return this.#end(() => this.resourceManager.close());
  }

  #end(endManager) {
    const finish = () => {
      const ended = endManager();
      this._initialized = false;
      return ended;
    };
    let own;
    try {
      own = this._cleanupStageSpecific();
    } catch (error) {
      this.#report(error);
    }
    if (!isThenable(own)) return finish();
    return Promise.resolve(own)
      .catch((error) => this.#report(error))
      .then(finish);
  }

  #report(error) {
    reportOnce(this, `_cleanupStageSpecific() of ${this.constructor.name}`, error);
  }
}

defineDisposal(StageBase);

module.exports = { StageBase };
