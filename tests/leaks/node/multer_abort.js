'use strict';
/* An upload service on bad lines: one of three clients is gone before the end. */

const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const fs = require('node:fs');
const path = require('node:path');
const { packaged, serve } = require('./service');

const multer = packaged('multer');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'upload-'));
const receive = multer({ dest: folder }).single('file');
process.on('exit', () => fs.rmSync(folder, { recursive: true }));

const server = http.createServer((request, response) => {
  receive(request, response, (error) => {
    if (request.file) fs.rmSync(request.file.path);
    response.statusCode = error ? 400 : 200;
    response.end();
  });
});

const head = [
  '--frontier',
  'content-disposition: form-data; name="file"; filename="a.txt"',
  'content-type: text/plain',
  '',
  '',
].join('\r\n');
const body = `${head}${'x'.repeat(30_000)}\r\n--frontier--\r\n`;

function upload(port, isCut) {
  return new Promise((resolve) => {
    const client = net.connect(port, '127.0.0.1');
    client.on('error', () => {});
    client.on('close', resolve);
    client.resume();
    client.write('POST / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n');
    client.write('content-type: multipart/form-data; boundary=frontier\r\n');
    client.write(`content-length: ${body.length}\r\n\r\n`);
    client.write(isCut ? body.slice(0, 20_000) : body);
    if (isCut) setTimeout(() => client.destroy(), 10);
  });
}

server.listen(0, '127.0.0.1', () => {
  serve(1, (n) => upload(server.address().port, n % 3 === 0));
});
