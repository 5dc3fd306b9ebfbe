'use strict';
/* A service that logs in bursts, into files that rotate when they are full. */

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { bursts, packaged, serve } = require('./service');

const { createLogger, format, transports } = packaged('winston');

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'service-log-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true }));

const file = { filename: path.join(folder, 'service.log'), maxsize: 4000, maxFiles: 3 };
const logger = createLogger({
  format: format.json(),
  transports: [new transports.File({ ...file, tailable: true })],
});

const log = (n) => logger.info(`request ${n} answered`, { path: `/order/${n}`, ms: n % 90 });

serve(bursts(40, 0.3, 0.1), log);
