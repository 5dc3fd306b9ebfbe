'use strict';

// queue_service - jobs of three kinds under memguard, for --jobs N or --seconds S.
//
//   node main.js [--redis URL] [--name NAME] [--apart] [--output FILE]
//                [--jobs N | --seconds S] [--max-memory-mb M] [--concurrency N]
//                [--rate JOBS_PER_S] [--pages N] [--leak | --leak-after S] [--json]
//
// Without --redis the queue is in this process. --apart gives images to a sandboxed
// worker (needs Redis), --leak has one kind of job leak, --leak-after that much later.
// --pages is the size of that kind's jobs. SIGINT and SIGTERM end the
// intake, what was accepted is finished; a second signal leaves it in Redis. Exit
// code: 0 done, 1 failed, 2 wrong usage.
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const { jobOf } = require('./jobs');
const { Reporter } = require('./reporter');
const { QueueService } = require('./service');
const { positive, usageError } = require('../options').optionsOf('queue_service');

const OUTSTANDING_JOBS = 400; // at most
const RETRY_MS = 300;

/** Adds jobs until all are in, the time is up, or `stop` is aborted. */
async function produce(service, options, stop, onTrouble) {
  const { jobs = Infinity, seconds = Infinity, rate = Infinity, leakAfter = Infinity } = options;
  const run = Date.now().toString(36);
  const began = Date.now();
  const endsAt = began + seconds * 1000;
  for (let number = 0; number < jobs && Date.now() < endsAt && !stop.aborted; number++) {
    if (Date.now() - began >= leakAfter * 1000) service.setLeaking(true);
    const { kind, data } = jobOf(number, options);
    const dueAt = Math.min(endsAt, began + (1000 * number) / rate);
    while ((service.outstanding >= OUTSTANDING_JOBS || Date.now() < dueAt) && !stop.aborted) await sleep(2);
    await addSurely(service, kind, data, `${run}-${number}`, stop, onTrouble);
  }
}

// Redis that is away or full is asked again: by its id a job is there once.
async function addSurely(service, kind, data, id, stop, onTrouble) {
  while (!stop.aborted) {
    try {
      await service.add(kind, data, { id });
      return;
    } catch (error) {
      onTrouble(error);
      await sleep(RETRY_MS);
    }
  }
}

function parse() {
  let values;
  try {
    const text = { type: 'string' };
    const flag = { type: 'boolean', default: false };
    ({ values } = parseArgs({
      options: {
        redis: text, name: text, output: text, jobs: text, seconds: text,
        rate: text, pages: text, 'leak-after': text,
        'max-memory-mb': { ...text, default: '256' },
        concurrency: { ...text, default: '16' },
        apart: flag, leak: flag, json: flag,
      },
    }));
  } catch (error) {
    usageError(error.message);
  }
  if (values.redis !== undefined && !URL.canParse(values.redis)) usageError(`--redis is "${values.redis}", not a URL`);
  if (values.apart && values.redis === undefined) usageError('--apart needs --redis');
  if (values.jobs !== undefined && values.seconds !== undefined) usageError('--jobs or --seconds, not both');
  const jobs = positive('jobs', values.jobs);
  return {
    redis: values.redis,
    name: values.name,
    output: values.output,
    jobs,
    rate: positive('rate', values.rate),
    pages: values.pages === undefined ? undefined : Math.ceil(positive('pages', values.pages)),
    leakAfter: positive('leak-after', values['leak-after']),
    seconds: positive('seconds', values.seconds) ?? (jobs === undefined ? 10 : undefined),
    maxMemoryMb: positive('max-memory-mb', values['max-memory-mb']),
    concurrency: Math.ceil(positive('concurrency', values.concurrency)),
    apart: values.apart ? ['image'] : [],
    leaks: values.leak,
    isJson: values.json,
  };
}

function defined(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

async function main() {
  const options = parse();
  const stop = new AbortController();
  const giveUp = new AbortController();
  const onSignal = () => (stop.signal.aborted ? giveUp : stop).abort();
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  process.stdout.on('error', () => stop.abort()); // the reader has gone away
  let trouble = '';
  const onTrouble = (error) => {
    if (error.message !== trouble) console.error(`queue_service: ${error.message}`);
    trouble = error.message;
  };
  const service = new QueueService(defined(options));
  service.on('redis:error', onTrouble);
  let reporter = null;
  try {
    await service.open();
    reporter = new Reporter(service, options);
    await produce(service, options, stop.signal, onTrouble);
    reporter.phase = 'finish';
    const left = new Promise((resolve) => giveUp.signal.addEventListener('abort', resolve));
    await Promise.race([service.drained(), left]);
  } catch (error) {
    console.error(`queue_service: ${error.name}: ${error.message}`);
    process.exitCode = 1;
  }
  reporter?.end(process.exitCode === 1 ? 'failed' : null);
  await service.close({ force: giveUp.signal.aborted || process.exitCode === 1 });
}

if (require.main === module) main();

module.exports = { main, produce };
