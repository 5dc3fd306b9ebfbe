'use strict';

// Configuration: what a host passes, a file and the environment, put together by
// the core's one table of settings. Precedence, lowest first: defaults, profile,
// file, environment, the mapping given by the program.
const native = require('./native');
const { codes, failure, kindOf, requireName } = require('./errors');
const { camel } = require('./names');
const { optional } = require('./optional');
const { textOf } = require('./report');

const values = new Float64Array(native.configKeys.length);

/* ---- from a mapping ------------------------------------------------------- */

// Prototypes are compared by depth: an object of another realm (vm, jest) is
// plain too, an instance of a class is not.
function isPlain(value) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function keysOf(mapping) {
  const keys = Reflect.ownKeys(mapping);
  const symbol = keys.find((key) => typeof key === 'symbol');
  if (symbol !== undefined) {
    throw failure('ETYPE', `a configuration key must be a string, not ${String(symbol)}`);
  }
  return keys;
}

function setOne(handle, path, value) {
  switch (typeof value) {
    case 'undefined':
      return;
    case 'number':
    case 'boolean':
    case 'string':
      native.configSet(handle, path, value);
      return;
    default:
      native.configRefuse(path, kindOf(value));
  }
}

// A mapping where a setting belongs is refused; one under an unknown name is taken
// for a section, so that the error names the path that is nearest.
function isSection(key, value) {
  if (native.configIsSection(key)) return true;
  try {
    native.configRefuse(key, 'an object');
  } catch (error) {
    if (error.code !== codes.EKEY || Object.keys(value).length === 0) throw error;
  }
  return true;
}

function setAll(handle, mapping, section) {
  for (const key of keysOf(mapping)) {
    const value = mapping[key];
    if (section === '' && isPlain(value) && isSection(key, value)) setAll(handle, value, key);
    else setOne(handle, section === '' ? key : `${section}.${key}`, value);
  }
}

function applyMapping(handle, mapping, what) {
  if (mapping === undefined || mapping === null) return;
  if (!isPlain(mapping)) throw failure('ETYPE', `${what} must be a plain object, not ${kindOf(mapping)}`);
  setAll(handle, mapping, '');
}

/* ---- from a file ---------------------------------------------------------- */

function parserOf(path) {
  switch (require('path').extname(path).toLowerCase()) {
    case '.json':
      return JSON.parse;
    case '.yaml':
    case '.yml':
      return optional('yaml', path).parse;
    case '.toml':
      return optional('smol-toml', path).parse;
    default:
      throw failure('EINVAL', `${path}: unknown kind of file, allowed: .json .yaml .yml .toml`);
  }
}

function readText(path) {
  try {
    return require('fs').readFileSync(path, 'utf8');
  } catch (cause) {
    const error = failure('ESYS', `${path}: ${textOf(cause)}`);
    error.errno = cause.errno;
    error.cause = cause;
    throw error;
  }
}

/** Reads a JSON, YAML or TOML file. @returns the mapping in it, unchecked. */
function loadConfig(path) {
  requireName(path, 'the path of a configuration file');
  const parse = parserOf(path);
  const text = readText(path).replace(/^\uFEFF/, '');
  let mapping;
  try {
    mapping = parse(text);
  } catch (cause) {
    const error = failure('EINVAL', `${path}: ${textOf(cause)}`);
    error.cause = cause;
    throw error;
  }
  if (mapping === null || mapping === undefined) return {};
  if (!isPlain(mapping)) throw failure('ETYPE', `${path} must hold a mapping, not ${kindOf(mapping)}`);
  return mapping;
}

/* ---- together ------------------------------------------------------------- */

const optionNames = ['profile', 'file', 'environment'];

function checkOptions(options) {
  if (!isPlain(options)) throw failure('ETYPE', `options must be a plain object, not ${kindOf(options)}`);
  for (const name of keysOf(options)) {
    if (!optionNames.includes(name)) {
      throw failure('EKEY', `unknown option ${name}, allowed: ${optionNames.join(', ')}`);
    }
  }
}

function environmentOf(options) {
  if (options.environment === undefined) return process.env;
  if (options.environment === null || options.environment === false) return {};
  if (typeof options.environment === 'object') return options.environment;
  throw failure('ETYPE', `environment must be an object or false, not ${kindOf(options.environment)}`);
}

// MEMGUARD_PREBUILD tells node-gyp-build where the addon is.
function isSetting(name) {
  return name.startsWith('MEMGUARD_') && name !== 'MEMGUARD_PREBUILD';
}

function profileOf(options, environment) {
  const profile = options.profile ?? (environment.MEMGUARD_PROFILE || 'default');
  requireName(profile, 'profile');
  return profile;
}

/** Builds a checked configuration of the core from all its sources. */
function resolve(mapping, options = {}) {
  checkOptions(options);
  const environment = environmentOf(options);
  const file = options.file ?? (environment.MEMGUARD_CONFIG || undefined);
  const handle = native.configOpen(profileOf(options, environment));
  if (file !== undefined) applyMapping(handle, loadConfig(file), file);
  const block = Object.keys(environment).filter(isSetting);
  native.configSetEnvironment(handle, block.map((name) => `${name}=${environment[name]}`));
  applyMapping(handle, mapping, 'the configuration');
  native.configCheck(handle);
  return handle;
}

/** A checked copy of `handle` with `changes` in it. */
function changed(handle, changes) {
  if (!isPlain(changes)) throw failure('ETYPE', `changes must be a plain object, not ${kindOf(changes)}`);
  const copy = native.configCopy(handle);
  setAll(copy, changes, '');
  native.configCheck(copy);
  return copy;
}

/** Stored numbers by path ("memory.max_memory_mb"). */
function numbersOf(handle) {
  const numbers = {};
  native.configRead(handle, values);
  native.configKeys.forEach((key, index) => {
    numbers[key] = values[index];
  });
  return numbers;
}

/** The settings in force, by section, frozen: { memory: { maxMemoryMb, ... }, ... } */
// As a mapping would give it, so that settings can be handed to updateConfig().
function valueOf(stored, type) {
  if (type === 'BOOL') return stored !== 0;
  return type === 'DURATION' ? stored / 1000 : stored;
}

function settingsOf(handle) {
  const settings = { profile: native.configRead(handle, values) };
  native.configKeys.forEach((key, index) => {
    const [section, name] = key.split('.').map(camel);
    settings[section] ??= {};
    settings[section][name] = valueOf(values[index], native.configTypes[index]);
  });
  for (const section of Object.values(settings)) Object.freeze(section);
  return Object.freeze(settings);
}

module.exports = { changed, isPlain, loadConfig, numbersOf, resolve, settingsOf };
