'use strict';

module.exports = {
  rootDir: __dirname,
  testEnvironment: 'node',
  testTimeout: 120000,
  maxWorkers: 1, // one browser at a time
  cacheDirectory: '../../build/jest-cache',
};
