/* leak_shapes.c - what memory does in a simulated life; part of leak_sim.c.
 *
 * Memory in percent of its limit, time in minutes. Each life has a base of 3 to
 * 30 %, a warm-up of 1 to 10 % that approaches its end exponentially (time
 * constant 0.5 to 3 minutes: over after three of them), noise of 0.01 to 0.2 %
 * that is in part correlated from sample to sample, and one shape on top. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SIM_STEP_MIN 0.25 /* between two samples */
#define SIM_DAY_MIN 1440.0
#define SIM_EVENTS 256

/* X(ID, name): no shape leaks but the last. */
#define SIM_SHAPE_MAP(X) \
  X(LRU_FILL, lru_fill) \
  X(LAZY_TABLES, lazy_tables) \
  X(RANDOM_WALK, random_walk) \
  X(SAW_TOOTH, saw_tooth) \
  X(BURSTS, bursts) \
  X(DAILY_WAVE, daily_wave) \
  X(LOAD_STEPS, load_steps) \
  X(TTL_SESSIONS, ttl_sessions) \
  X(FRAGMENTATION, fragmentation) \
  X(LOG_RING, log_ring) \
  X(SLOWING_FILL, slowing_fill) \
  X(LEAK, leak)

typedef enum sim_shape {
#define SIM_ENUM(id, name) SIM_##id,
  SIM_SHAPE_MAP(SIM_ENUM)
#undef SIM_ENUM
  SIM_SHAPES
} sim_shape;
#define SIM_HARMLESS ((int)SIM_LEAK)

typedef struct sim_event {
  double at, height, lasts, ramp;
} sim_event;

typedef struct sim_life {
  uint64_t random;
  sim_shape shape;
  double base, warm, warm_tau, noise, correlated; /* the last: its state */
  double a, b, c, d, state; /* of the shape */
  sim_event event[SIM_EVENTS];
  int events;
} sim_life;

/* ---- chance --------------------------------------------------------------- */

static double sim_uniform(sim_life *life) {
  uint64_t z = life->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double sim_between(sim_life *life, double low, double high) {
  return low + (high - low) * sim_uniform(life);
}

/* Each order of magnitude is as likely as any other. */
static double sim_log_between(sim_life *life, double low, double high) {
  return exp(sim_between(life, log(low), log(high)));
}

static double sim_normal(sim_life *life) {
  double radius = sqrt(-2.0 * log(sim_uniform(life)));

  return radius * cos(6.283185307179586 * sim_uniform(life));
}

static double sim_rise(double t, double tau) {
  return t <= 0.0 ? 0.0 : 1.0 - exp(-t / tau);
}

static double sim_ramp(double t, double lasts) {
  return t <= 0.0 ? 0.0 : t >= lasts ? 1.0 : t / lasts;
}

/* Adds events, `per_day` on the average. */
static void sim_add_events(sim_life *life, double per_day, double height_low,
                           double height_high, double lasts_low,
                           double lasts_high) {
  double at = 0.0;

  while (life->events < SIM_EVENTS) {
    at -= log(sim_uniform(life)) * SIM_DAY_MIN / per_day;
    if (at > 20.0 * SIM_DAY_MIN) return;
    life->event[life->events++] =
        (sim_event){at, sim_log_between(life, height_low, height_high),
                    sim_log_between(life, lasts_low, lasts_high), 0.0};
  }
}

/* ---- shapes --------------------------------------------------------------- */

/* A cache: keys repeat, so it fills ever more slowly, and half of the caches
 * reach a cap before that. Three of ten are first used in mid-life. */
static void lru_fill_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.5, 30.0);
  life->b = sim_log_between(life, 5.0, 720.0);
  life->c = sim_uniform(life) < 0.3 ? sim_between(life, 0.0, 2000.0) : 0.0;
  life->d = sim_uniform(life) < 0.5 ? sim_between(life, 0.5, 1.0) : 1.0;
}
static double lru_fill_step(sim_life *life, double t) {
  return life->a * fmin(life->d, sim_rise(t - life->c, life->b));
}

/* Tables are built when first asked for, some minutes or a day after the start. */
static void lazy_tables_begin(sim_life *life) {
  int tables = (int)sim_between(life, 5.0, 60.0);

  for (life->events = 0; life->events < tables; life->events++)
    life->event[life->events] = (sim_event){
        -log(sim_uniform(life)) * sim_log_between(life, 1.0, SIM_DAY_MIN),
        sim_log_between(life, 0.02, 2.0), sim_log_between(life, 0.05, 5.0), 0.0};
}
static double lazy_tables_step(sim_life *life, double t) {
  double sum = 0.0;

  for (int i = 0; i < life->events; i++)
    sum += life->event[i].height *
           sim_ramp(t - life->event[i].at, life->event[i].lasts);
  return sum;
}

/* Ornstein-Uhlenbeck: a walk that forgets in 2 to 24 hours. */
static void random_walk_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.3, 5.0);
  life->b = sim_log_between(life, 120.0, 1440.0);
  life->state = 0.0;
}
static double random_walk_step(sim_life *life, double t) {
  double keep = exp(-SIM_STEP_MIN / life->b);

  (void)t;
  life->state = keep * life->state +
                life->a * sqrt(1.0 - keep * keep) * sim_normal(life);
  return 3.0 * life->a + life->state;
}

/* Garbage or a batch that grows until it is collected or flushed. */
static void saw_tooth_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.3, 8.0);
  life->b = sim_log_between(life, 0.5, 120.0);
  life->c = 1.0;
}
static double saw_tooth_step(sim_life *life, double t) {
  (void)t;
  life->state += SIM_STEP_MIN / (life->b * life->c);
  if (life->state >= 1.0) {
    life->state = 0.0;
    life->c = sim_between(life, 0.7, 1.3);
  }
  return life->a * life->c * life->state;
}

static void bursts_begin(sim_life *life) {
  sim_add_events(life, sim_log_between(life, 2.0, 12.0), 0.5, 25.0, 1.0, 60.0);
  for (int i = 0; i < life->events; i++)
    life->event[i].ramp = sim_log_between(life, 0.2, 10.0);
}
static double bursts_step(sim_life *life, double t) {
  double sum = 0.0;

  for (int i = 0; i < life->events && life->event[i].at < t; i++) {
    const sim_event *e = &life->event[i];
    double after = t - e->at - e->ramp - e->lasts;
    sum += e->height * (after <= 0.0 ? sim_ramp(t - e->at, e->ramp)
                                     : exp(-after / e->ramp));
  }
  return fmin(sum, 50.0);
}

/* Load of the day: a sine, or more square; started at any hour. */
static void daily_wave_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.5, 25.0);
  life->b = sim_between(life, 0.0, SIM_DAY_MIN);
  life->c = sim_between(life, 0.1, 2.0);
}
static double daily_wave_step(sim_life *life, double t) {
  double angle = 6.283185307179586 * (t + life->b) / SIM_DAY_MIN;

  life->state = 0.98 * life->state + 0.02 * sim_normal(life);
  return life->a * (0.5 + 0.5 * tanh(life->c * sin(angle)) / tanh(life->c)) *
         (1.0 + 0.3 * life->state);
}

/* Another level of load, for good or until the next step. */
static void load_steps_begin(sim_life *life) {
  sim_add_events(life, sim_log_between(life, 1.0, 8.0), 0.3, 8.0, 0.5, 20.0);
  for (int i = 0; i < life->events; i++)
    life->event[i].ramp = sim_uniform(life); /* up or down */
}
static double load_steps_step(sim_life *life, double t) {
  double level = 5.0;

  for (int i = 0; i < life->events && life->event[i].at < t; i++) {
    const sim_event *e = &life->event[i];
    double to = e->ramp < 0.5 ? fmax(level - e->height, 0.0)
                              : fmin(level + e->height, 30.0);
    level += (to - level) * sim_ramp(t - e->at, e->lasts);
  }
  return level;
}

/* Sessions live for a fixed time: after a step of the load their number grows
 * for just that long, in a straight line. */
static void ttl_sessions_begin(sim_life *life) {
  life->a = sim_log_between(life, 5.0, 120.0);
  life->b = sim_log_between(life, 0.3, 6.0);
  sim_add_events(life, sim_log_between(life, 0.5, 4.0), 0.3, 6.0, 1.0, 2.0);
}
static double ttl_sessions_step(sim_life *life, double t) {
  double level = life->b * sim_ramp(t, life->a);

  for (int i = 0; i < life->events && life->event[i].at < t; i++) {
    const sim_event *e = &life->event[i];
    double to = e->height;
    level += (to - level) * sim_ramp(t - e->at, life->a);
  }
  return level;
}

/* Holes between what is alive: each peak leaves a higher floor, by ever less. */
static void fragmentation_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.5, 15.0);
  life->b = sim_log_between(life, 10.0, 600.0);
  life->c = sim_log_between(life, 2.0, 60.0);
}
static double fragmentation_step(sim_life *life, double t) {
  if (sim_uniform(life) < SIM_STEP_MIN / life->c)
    life->state += (1.0 - life->state) * (1.0 - exp(-life->c / life->b)) *
                   2.0 * sim_uniform(life);
  life->d = life->a * (1.0 - 1.0 / (1.0 + t / life->b));
  return 0.5 * (life->d + life->a * fmin(life->state, 1.0));
}

/* Lines are kept up to a number: a straight fill from the start, then none. */
static void log_ring_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.05, 5.0);
  life->b = sim_log_between(life, 5.0, 1440.0);
}
static double log_ring_step(sim_life *life, double t) {
  return life->a * sim_ramp(t, life->b);
}

/* Distinct names seen so far (Heaps' law): never ends, but slows down. */
static void slowing_fill_begin(sim_life *life) {
  life->a = sim_log_between(life, 0.5, 12.0);
  life->b = sim_between(life, 0.3, 0.7);
}
static double slowing_fill_step(sim_life *life, double t) {
  return life->a * pow(t / SIM_DAY_MIN, life->b);
}

/* As fast as the load, which changes by a tenth or so. */
static void leak_begin(sim_life *life) {
  life->b = life->state = 0.0;
}
static double leak_step(sim_life *life, double t) {
  (void)t;
  life->b = 0.9 * life->b + 0.1 * sim_normal(life);
  life->state += life->a * SIM_STEP_MIN * fmax(0.0, 1.0 + 0.25 * life->b);
  return life->state;
}

/* ---- lives ---------------------------------------------------------------- */

static const struct {
  const char *name;
  void (*begin)(sim_life *life);
  double (*step)(sim_life *life, double t);
} sim_shapes[SIM_SHAPES] = {
#define SIM_ROW(id, name) {#name, name##_begin, name##_step},
    SIM_SHAPE_MAP(SIM_ROW)
#undef SIM_ROW
};

/* `rate`: of a leak, percent of the limit per minute. */
static void sim_begin(sim_life *life, sim_shape shape, uint64_t seed,
                      double rate) {
  memset(life, 0, sizeof *life);
  life->random = seed;
  life->shape = shape;
  life->base = sim_log_between(life, 3.0, 30.0);
  life->warm = sim_log_between(life, 1.0, 10.0);
  life->warm_tau = sim_log_between(life, 0.5, 3.0);
  life->noise = sim_log_between(life, 0.01, 0.2);
  life->a = rate;
  sim_shapes[shape].begin(life);
}

/* The next sample, SIM_STEP_MIN after the last. */
static double sim_step(sim_life *life, double now_min) {
  double value = life->base + life->warm * sim_rise(now_min, life->warm_tau) +
                 sim_shapes[life->shape].step(life, now_min);

  life->correlated = 0.8 * life->correlated + 0.6 * sim_normal(life);
  return fmax(0.0, value + life->noise * (0.7 * life->correlated +
                                          0.7 * sim_normal(life)));
}

/* When the warm-up is over. */
static double sim_warm_min(const sim_life *life) { return 3.0 * life->warm_tau; }
