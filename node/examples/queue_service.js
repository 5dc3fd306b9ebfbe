'use strict';

// The queue service under its own name, which is what tools show: see queue_service/.
require('./queue_service/main').main();
