'use strict';
/* A gRPC service whose clients connect, ask one thing and go. */

const { packaged, serve } = require('./service');

const grpc = packaged('@grpc/grpc-js');

const pass = (value) => value;
const method = {
  path: '/clock/Now',
  requestStream: false,
  responseStream: false,
  requestSerialize: pass,
  requestDeserialize: pass,
  responseSerialize: pass,
  responseDeserialize: pass,
};
const Client = grpc.makeGenericClientConstructor({ now: method }, 'clock');
const server = new grpc.Server();
server.addService({ now: method }, {
  now: (call, callback) => callback(null, Buffer.from(`${Date.now()}`)),
});

function ask(port) {
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
  return new Promise((resolve, reject) => {
    client.now(Buffer.from('now?'), (error, answer) => {
      client.close();
      if (error) reject(error);
      else resolve(`${answer}`);
    });
  });
}

server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  if (server.start) server.start();
  serve(4, () => ask(port));
});
