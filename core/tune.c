/* tune.c - GC profiles, and the trial that keeps the best of them. Pure. */
#include "memguard/tune.h"

#include <math.h>
#include <string.h>

#include "internal.h"

/* ---- profiles ------------------------------------------------------------ */

static const struct {
  const char *name;
  uint32_t threshold[3];
} tune_profiles[MG_GC_PROFILES] = {
#define TUNE_PROFILE(id, name, t0, t1, t2) {name, {t0, t1, t2}},
    MG_GC_PROFILE_MAP(TUNE_PROFILE)
#undef TUNE_PROFILE
};

const char *mg_gc_profile_name(mg_gc_profile profile) {
  return profile < MG_GC_PROFILES ? tune_profiles[profile].name : "unknown";
}

void mg_gc_profile_thresholds(mg_gc_profile profile, uint32_t out[3]) {
  if (profile >= MG_GC_PROFILES) profile = MG_GC_DEFAULT;
  memcpy(out, tune_profiles[profile].threshold,
         sizeof tune_profiles[profile].threshold);
}

mg_status mg_gc_profile_find(mg_gc_profile *out, const char *name,
                             mg_error *err) {
#define TUNE_LISTED(id, name, t0, t1, t2) " " name
  static const char listed[] = MG_GC_PROFILE_MAP(TUNE_LISTED);
#undef TUNE_LISTED

  for (uint32_t i = 0; i < MG_GC_PROFILES; i++) {
    if (strcmp(tune_profiles[i].name, name) != 0) continue;
    *out = (mg_gc_profile)i;
    return MG_OK;
  }
  return mg__fail(err, MG_EINVAL, "GC profile \"%s\", allowed:%s", name, listed);
}

/* ---- scores -------------------------------------------------------------- */

#define TUNE_PAUSE_WEIGHT 0.5
#define TUNE_GC_WEIGHT 0.4
#define TUNE_RATE_WEIGHT 0.1
#define TUNE_PAUSE_NOISE_MS 1.0
#define TUNE_GC_NOISE 0.005 /* of the time */
#define TUNE_LEFT_LEAST 0.01
#define TUNE_RATE_NOISE 1.0 /* per second */
#define TUNE_RATIO_MAX 10.0
#define TUNE_MS_PER_SECOND 1000.0
#define TUNE_MEMORY_FACTOR 1.10
#define TUNE_GAIN_FACTOR 0.9
#define TUNE_REFERENCE_FADED 1.5
#define TUNE_ENOUGH 0.5

static double tune_ratio(double value, double reference, double noise) {
  return fmin((value + noise) / (reference + noise), TUNE_RATIO_MAX);
}

/* Of the time that was left for the program: a program that is never idle gets
 * less of that the more the collector takes. */
static double tune_share(const mg_trial_window *w) {
  double all_ms = w->seconds * TUNE_MS_PER_SECOND;

  return w->gc_ms / fmax(all_ms - w->gc_ms, TUNE_LEFT_LEAST * all_ms);
}

/* How much faster the reference was; 1 where operations are not counted. */
static double tune_slower(const mg_trial_window *reference,
                          const mg_trial_window *w) {
  double rate, reference_rate;

  if (reference->operations == MG_ABSENT || w->operations == MG_ABSENT ||
      reference->operations == 0 || w->operations == 0)
    return 1.0;
  rate = (double)w->operations / w->seconds;
  reference_rate = (double)reference->operations / reference->seconds;
  return fmin(fmax(reference_rate / rate, 0.5), 2.0);
}

double mg_trial_score(const mg_trial_window *reference,
                      const mg_trial_window *w) {
  double slower = tune_slower(reference, w);
  double pause =
      tune_ratio(w->pause_ms, reference->pause_ms, TUNE_PAUSE_NOISE_MS);
  double gc =
      tune_ratio(tune_share(w), tune_share(reference), TUNE_GC_NOISE);
  double rate = tune_ratio((double)w->collections / w->seconds,
                           (double)reference->collections / reference->seconds,
                           TUNE_RATE_NOISE);

  return slower * (TUNE_PAUSE_WEIGHT * pause + TUNE_GC_WEIGHT * gc +
                   TUNE_RATE_WEIGHT * rate);
}

static bool tune_is_too_large(const mg_trial_window *reference,
                              const mg_trial_window *w) {
  return reference->peak_rss_bytes != MG_ABSENT &&
         w->peak_rss_bytes != MG_ABSENT &&
         (double)w->peak_rss_bytes >
             TUNE_MEMORY_FACTOR * (double)reference->peak_rss_bytes;
}

/* ---- rounds -------------------------------------------------------------- */

void mg_trial_init(mg_trial *out, uint32_t profiles, mg_gc_profile reference) {
  *out = (mg_trial){.profiles = profiles | MG_GC_PROFILE_BIT(reference),
                    .reference = reference,
                    .quiet_ms = MG_TRIAL_QUIET_MS};
  mg_trial_restart(out);
}

void mg_trial_try_all(mg_trial *t) { t->tries_all = true; }

mg_gc_profile mg_trial_restart(mg_trial *t) {
  t->phase = MG_TRIAL_TRYING;
  t->measured = 0;
  t->faded = 0;
  for (uint32_t i = 0; i < MG_GC_PROFILES; i++)
    t->verdict[i] = MG_TRIAL_UNTRIED;
  t->current = t->reference;
  return t->current;
}

static bool trial_has(uint32_t bits, uint32_t profile) {
  return (bits & (UINT32_C(1) << profile)) != 0;
}

static void trial_note(mg_trial *t, const mg_trial_window *w) {
  mg_gc_profile p = t->current;

  t->window[p] = *w;
  t->measured |= MG_GC_PROFILE_BIT(p);
  t->score[p] = mg_trial_score(&t->window[t->reference], w);
  if (p == t->reference)
    t->verdict[p] = MG_TRIAL_REFERENCE;
  else if (tune_is_too_large(&t->window[t->reference], w))
    t->verdict[p] = MG_TRIAL_MEMORY;
  else
    t->verdict[p] = t->score[p] > TUNE_GAIN_FACTOR ? MG_TRIAL_NO_GAIN
                                                   : MG_TRIAL_WORSE;
}

static mg_gc_profile trial_best(mg_trial *t) {
  mg_gc_profile best = t->reference;

  for (uint32_t i = 0; i < MG_GC_PROFILES; i++)
    if (trial_has(t->measured, i) && t->verdict[i] == MG_TRIAL_WORSE &&
        t->score[i] <= TUNE_GAIN_FACTOR * t->score[best])
      best = (mg_gc_profile)i;
  if (best != t->reference) t->verdict[best] = MG_TRIAL_BEST;
  return best;
}

static mg_gc_profile trial_end_round(mg_trial *t, double now_ms) {
  if (t->rounds > 0)
    t->quiet_ms = fmin(2.0 * t->quiet_ms, MG_TRIAL_QUIET_MAX_MS);
  t->rounds++;
  t->phase = MG_TRIAL_KEPT;
  t->faded = 0;
  t->ended_ms = now_ms;
  t->current = trial_best(t);
  return t->current;
}

static mg_gc_profile trial_try(mg_trial *t, const mg_trial_window *w,
                               double now_ms) {
  trial_note(t, w);
  if (!t->tries_all && t->verdict[t->current] == MG_TRIAL_WORSE &&
      t->score[t->current] <= TUNE_ENOUGH)
    return trial_end_round(t, now_ms);
  for (uint32_t i = 0; i < MG_GC_PROFILES; i++) {
    if (!trial_has(t->profiles, i) || trial_has(t->measured, i)) continue;
    t->current = (mg_gc_profile)i;
    return t->current;
  }
  return trial_end_round(t, now_ms);
}

static bool trial_has_faded(const mg_trial *t, const mg_trial_window *w) {
  const mg_trial_window *reference = &t->window[t->reference];
  double score = mg_trial_score(reference, w);

  if (t->current == t->reference) return score > TUNE_REFERENCE_FADED;
  return score > (1.0 + t->score[t->current]) / 2.0 ||
         tune_is_too_large(reference, w);
}

static mg_gc_profile trial_watch(mg_trial *t, const mg_trial_window *w) {
  t->faded = trial_has_faded(t, w) ? t->faded + 1 : 0;
  if (t->faded < MG_TRIAL_FADED_WINDOWS) return t->current;
  t->phase = MG_TRIAL_RESTING;
  t->current = t->reference;
  return t->current;
}

mg_gc_profile mg_trial_next(mg_trial *t, const mg_trial_window *w,
                            double now_ms) {
  if (!(w->seconds > 0)) return t->current;
  if (now_ms < t->ended_ms) t->ended_ms = now_ms; /* the clock went back */
  if (t->phase == MG_TRIAL_TRYING) return trial_try(t, w, now_ms);
  if (t->phase == MG_TRIAL_KEPT) trial_watch(t, w);
  if (t->phase == MG_TRIAL_RESTING && now_ms - t->ended_ms >= t->quiet_ms)
    return mg_trial_restart(t);
  return t->current;
}

const char *mg_trial_phase_name(mg_trial_phase phase) {
#define TUNE_NAME(id, name) name,
  static const char *const names[] = {MG_TRIAL_PHASE_MAP(TUNE_NAME)};

  return (size_t)phase < sizeof names / sizeof *names ? names[phase] : "unknown";
}

const char *mg_trial_verdict_name(mg_trial_verdict verdict) {
  static const char *const names[] = {MG_TRIAL_VERDICT_MAP(TUNE_NAME)};

  return (size_t)verdict < sizeof names / sizeof *names ? names[verdict]
                                                        : "unknown";
}

const char *mg_freeze_step_name(mg_freeze_step step) {
  static const char *const names[] = {MG_FREEZE_MAP(TUNE_NAME)};
#undef TUNE_NAME

  return (size_t)step < sizeof names / sizeof *names ? names[step] : "unknown";
}
