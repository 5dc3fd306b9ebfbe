'use strict';

// The Node side of the message bus under its own name, which is what tools show: see
// message_bus/.
require('./message_bus/main').main();
