/* memguard.h - the whole public C API of memguard. */
#ifndef MEMGUARD_H
#define MEMGUARD_H

#include "memguard/advice.h"
#include "memguard/alert.h"
#include "memguard/base.h"
#include "memguard/buffer.h"
#include "memguard/census.h"
#include "memguard/config.h"
#include "memguard/control.h"
#include "memguard/detector.h"
#include "memguard/history.h"
#include "memguard/leak.h"
#include "memguard/level.h"
#include "memguard/manager.h"
#include "memguard/metrics.h"
#include "memguard/monitor.h"
#include "memguard/optimize.h"
#include "memguard/pause.h"
#include "memguard/policy.h"
#include "memguard/pool.h"
#include "memguard/process.h"
#include "memguard/recycle.h"
#include "memguard/resource.h"
#include "memguard/sample.h"
#include "memguard/segment.h"
#include "memguard/trend.h"
#include "memguard/tune.h"
#include "memguard/web.h"

#endif
