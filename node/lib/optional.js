'use strict';

const { failure } = require('./errors');

/** A package that a program installs if it uses what `user` names. */
function optional(name, user) {
  try {
    return require(name);
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND' || !error.message.includes(`'${name}'`)) throw error;
    throw failure('EABSENT', `${user} needs the package "${name}": npm install ${name}`);
  }
}

module.exports = { optional };
