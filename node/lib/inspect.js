'use strict';

// V8's inspector, used on this thread and only while nobody debugs the process: a
// session of ours next to a debugger would stop at its breakpoints and show up in
// its lists.
const { failure } = require('./errors');

const made = new WeakSet(); // what is ours of it

/** Why the inspector cannot be used here; null if it can. */
function inspectorAbsence() {
  if (!process.features.inspector) return 'this Node has no inspector';
  const inspector = require('inspector');
  if (inspector.url() !== undefined) return 'a debugger has this process';
  if (process.permission !== undefined && !process.permission.has('inspector')) return 'the permission model forbids the inspector';
  return null;
}

/** A connected session. Its commands end before post() returns. Throws where
 *  inspectorAbsence() tells a reason. */
class Session {
  #session;

  constructor() {
    const absence = inspectorAbsence();
    if (absence !== null) throw failure('EABSENT', absence);
    const inspector = require('inspector');
    this.#session = new inspector.Session();
    made.add(this).add(this.#session);
    try {
      this.#session.connect();
    } catch (error) {
      throw failure('EABSENT', `the inspector refused: ${error.message}`);
    }
  }

  post(method, parameters) {
    let answer;
    let problem = null;
    this.#session.post(method, parameters, (error, result) => {
      problem = error;
      answer = result;
    });
    if (problem !== null) throw failure('ESYS', `${method}: ${problem.message}`);
    return answer;
  }

  /** The events of that name while `work` runs. */
  announced(event, work) {
    const events = [];
    const listener = ({ params }) => events.push(params);
    this.#session.on(event, listener);
    try {
      work();
    } finally {
      this.#session.off(event, listener);
    }
    return events;
  }

  close() {
    this.#session.disconnect();
  }
}

/** Whether an object is a session of ours. */
function isOurs(object) {
  return made.has(object);
}

module.exports = { Session, inspectorAbsence, isOurs };
