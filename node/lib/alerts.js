'use strict';

// The alerts of a monitor and the channels that carry them out.
const native = require('./native');
const channels = require('./alert_channels');
const { failure, requireCount, requireNumber } = require('./errors');
const { hold, letGo } = require('./live');
const { isExiting } = require('./report');

const { BEGIN, CHECK, Callback, Channel, END, END_AT_EXIT, POKE, readAlerts } = channels;
const FLUSH_STEP_MS = 20;

class Alerts {
  #core;
  #noteInterest;
  #channels = [];
  #seen = 0;
  #isClosed = false;

  /** @param noteInterest called when there is a first channel, or none any more. */
  constructor(core, noteInterest) {
    this.#core = core;
    this.#noteInterest = noteInterest;
  }

  #read(after) {
    this.#core.requireOpen();
    return readAlerts(this.#core.handle, after);
  }

  get active() {
    return this.#read(0).active;
  }

  get stats() {
    return this.#read(0).stats;
  }

  history(after = 0) {
    requireCount(after, 'after', 0);
    return this.#read(after).changes;
  }

  get channels() {
    return [...this.#channels];
  }

  add(channel) {
    const made = channel instanceof Channel ? channel : new Callback(channel);
    if (this.#isClosed) throw failure('ECLOSED', 'alerts of a monitor that is closed');
    this.#core.requireOpen();
    made[CHECK]();
    this.#channels.push(made);
    if (this.#channels.length === 1) hold(this, () => this.#endAtExit());
    this.#noteInterest();
    made[BEGIN](this.#core.handle);
    return made;
  }

  async remove(channel) {
    const index = this.#channels.indexOf(channel);
    if (index < 0) return;
    this.#channels.splice(index, 1);
    if (this.#channels.length === 0) letGo(this);
    this.#noteInterest();
    await channel[END]();
  }

  async flush(timeout = 5) {
    requireNumber(timeout, 'timeout', 0);
    const end = Date.now() + timeout * 1000;
    for (;;) {
      this.poke();
      // A callback tells of its end in a later turn.
      await new Promise((resolve) => setTimeout(resolve, FLUSH_STEP_MS));
      if (this.#channels.every((channel) => channel.stats.waiting === 0)) return true;
      if (this.#isClosed || Date.now() >= end) return false;
    }
  }

  /** There may be something new. */
  poke() {
    for (const channel of [...this.#channels]) channel[POKE]();
  }

  /** The changes that listeners were not told of yet. */
  take() {
    const told = readAlerts(this.#core.handle, this.#seen);
    this.#seen = told.stats.changes;
    return told.changes;
  }

  async close() {
    if (isExiting()) {
      this.#endAtExit();
      return;
    }
    this.#isClosed = true;
    const ending = this.#channels.splice(0);
    letGo(this);
    await Promise.all(ending.map((channel) => channel[END]().catch(() => {})));
  }

  #endAtExit() {
    this.#isClosed = true;
    for (const channel of this.#channels.splice(0)) channel[END_AT_EXIT]();
  }
}

const { Alertmanager, Logging, Webhook } = channels;

module.exports = { Alertmanager, Alerts, Callback, Channel, KINDS: Object.freeze([...native.alertKinds]), Logging, Webhook };
