'use strict';

// The addon: build/Release of a checkout, else prebuilds/<platform>-<arch>.
const path = require('path');

module.exports = require('node-gyp-build')(path.join(__dirname, '..', '..'));
