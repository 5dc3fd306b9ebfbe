/* advice.c - sizes of V8's spaces. Pure. */
#include "memguard/advice.h"

#include <math.h>

#include "internal.h"

#define ADVICE_SEMI_PARTS 12.0 /* young, three of them, is a quarter */
#define ADVICE_SEMIS_OF_YOUNG 3u
#define ADVICE_BYTES_PER_MB 1048576.0
#define ADVICE_SEMI_OPTION_MAJOR 18u

static mg_status advice_check(const mg_v8_view *v, mg_error *err) {
  if (v->node_major < MG_V8_NODE_LEAST)
    return mg__fail(err, MG_ERANGE, "node_major is %u, allowed: %u or later",
                    (unsigned)v->node_major, MG_V8_NODE_LEAST);
  if (!(v->headroom >= 0.0 && v->headroom <= MG_V8_HEADROOM_MAX))
    return mg__fail(err, MG_ERANGE, "headroom is %g, allowed: 0 to %g",
                    v->headroom, MG_V8_HEADROOM_MAX);
  if (!(v->share > 0.0 && v->share <= 1.0))
    return mg__fail(err, MG_ERANGE, "share is %g, allowed: above 0, to 1",
                    v->share);
  return MG_OK;
}

static uint32_t advice_semi_mb(double memory_mb) {
  uint32_t mb = MG_V8_SEMI_MAX_MB;

  while (mb > 1 && mb > memory_mb / ADVICE_SEMI_PARTS) mb /= 2;
  return mb;
}

static void advice_divide(mg_v8_advice *out, double memory_mb) {
  double old_mb;

  out->semi_space_mb = advice_semi_mb(memory_mb);
  out->young_mb = ADVICE_SEMIS_OF_YOUNG * out->semi_space_mb;
  old_mb = memory_mb - out->young_mb;
  out->is_capped = old_mb > MG_V8_OLD_MAX_MB;
  out->is_tight = old_mb < MG_V8_OLD_LEAST_MB;
  out->old_space_mb = (uint64_t)fmin(fmax(old_mb, MG_V8_OLD_LEAST_MB),
                                     MG_V8_OLD_MAX_MB);
}

mg_status mg_v8_advise(mg_v8_advice *out, const mg_v8_view *v, mg_error *err) {
  mg_status st = advice_check(v, err);

  if (st != MG_OK) return st;
  *out = (mg_v8_advice){
      .old_space_mb = MG_ABSENT,
      .semi_space_mb = MG_V8_SEMI_MAX_MB,
      .young_mb = ADVICE_SEMIS_OF_YOUNG * MG_V8_SEMI_MAX_MB,
      .takes_semi_option = v->node_major >= ADVICE_SEMI_OPTION_MAJOR};
  if (v->limit_bytes != MG_ABSENT)
    advice_divide(out, floor((double)v->limit_bytes / ADVICE_BYTES_PER_MB *
                             (1.0 - v->headroom) * v->share));
  return MG_OK;
}
