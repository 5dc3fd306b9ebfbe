'use strict';

// A real Alertmanager, and a receiver of what it and our webhooks tell.
const fs = require('fs');
const http = require('http');
const path = require('path');
const { freePort, startAt } = require('./servers');

const configOf = (url) => `route:
  receiver: all
  group_by: ["..."]
  group_wait: 100ms
  group_interval: 200ms
  repeat_interval: 1h
receivers:
  - name: all
    webhook_configs:
      - url: ${url}/alertmanager
        send_resolved: true
`;

/** Notes what is posted.
 *  @returns url; bodies: [path, body]; kinds(path, state); answer: status and headers
 *  from now on; stop() */
async function startReceiver() {
  const told = [];
  const bodies = [];
  const answer = { status: 200, headers: {} };
  const server = http.createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      if (answer.status === 200) {
        const body = JSON.parse(text);
        bodies.push([request.url, body]);
        for (const alert of body.alerts) {
          told.push([request.url, alert.kind ?? alert.labels.alertname, alert.state ?? alert.status]);
        }
      }
      response.writeHead(answer.status, answer.headers).end();
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    answer,
    bodies,
    kinds: (at, state) => [...new Set(told.filter((one) => one[0] === at && one[2] === state).map((one) => one[1]))].sort(),
    stop() {
      server.closeAllConnections?.();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** @returns url, config (its file); start(): Alertmanager on that port, with what it
 *  kept; start() returns { stop } */
async function prepareAlertmanager(directory, receiver) {
  const config = path.join(directory, 'alertmanager.yml');
  const port = await freePort();
  fs.writeFileSync(config, configOf(receiver.url));
  const words = () => [
    'prometheus-alertmanager', `--config.file=${config}`, `--storage.path=${directory}`,
    `--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address=',
  ];
  return { url: `http://127.0.0.1:${port}`, config, start: () => startAt(port, 'http', words) };
}

module.exports = { prepareAlertmanager, startReceiver };
