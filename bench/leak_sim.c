/* leak_sim.c - how often the leak detector is wrong, and how long it takes.
 *
 *     bench_leak_sim [LIVES]
 *
 * LIVES of two days per harmless shape, seen by the detector, by a Mann-Kendall
 * test on the newest hour and by the rule that five growing collections in a row
 * are a leak; then leaks of several rates. All see the same values, as the live
 * heap after full collections, one each 15 s. Prints a table, and rows:
 *
 *     row NAME UNIT OURS PEER PEER_NAME */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "median.h"
#include "memguard.h"
#include "workloads/leak_shapes.c"

#define LIVES_DEFAULT 455
#define LIFE_DAYS 2
#define LIFE_MIN (LIFE_DAYS * SIM_DAY_MIN)
#define NEVER_MIN LIFE_MIN /* not told: as long as is looked at most */
#define LIMIT_BYTES (2048.0 * 1048576.0)
#define MS_PER_MIN 60000.0
#define LEAK_LIVES 120
#define KENDALL_POINTS 60   /* of a minute each */
#define KENDALL_EVERY 40    /* samples between two tests */
#define KENDALL_Z 2.326     /* one-sided p < 0.01 */
#define COLLECTION_SAMPLES 4 /* one a minute */
#define WORKERS 2

typedef enum judge {
  JUDGE_SUSPECT,
  JUDGE_LIKELY,
  JUDGE_CONFIRMED,
  JUDGE_KENDALL,
  JUDGE_COLLECTIONS,
  JUDGES
} judge;

/* What one life showed. */
typedef struct verdicts {
  double first_min[JUDGES];       /* of an alarm; negative: none */
  bool alarm[JUDGES][LIFE_DAYS];  /* raised on that day */
  double warm_min;
} verdicts;

static void raise_alarm(verdicts *v, judge by, double now_min) {
  int day = (int)(now_min / SIM_DAY_MIN);

  if (v->first_min[by] < 0.0) v->first_min[by] = now_min;
  if (day < LIFE_DAYS) v->alarm[by][day] = true;
}

/* ---- the peers ------------------------------------------------------------- */

typedef struct peers {
  double newest[KENDALL_POINTS], collected;
  int count, growing;
  bool kendall_told, growing_told; /* an alarm lasts until its reason is gone */
} peers;

static double kendall_z(const double *value, int n) {
  long sum = 0;

  for (int i = 0; i + 1 < n; i++)
    for (int j = i + 1; j < n; j++)
      sum += (value[j] > value[i]) - (value[j] < value[i]);
  return ((double)sum - 1.0) / sqrt(n * (n - 1.0) * (2.0 * n + 5.0) / 18.0);
}

static void peers_step(peers *p, verdicts *v, long sample, double value,
                       double now_min) {
  if (sample % COLLECTION_SAMPLES != 0) return;
  p->growing = value > p->collected ? p->growing + 1 : 0;
  p->collected = value;
  if (p->growing >= 5 && !p->growing_told)
    raise_alarm(v, JUDGE_COLLECTIONS, now_min);
  p->growing_told = p->growing >= 5;
  if (p->count == KENDALL_POINTS) {
    memmove(p->newest, p->newest + 1, (KENDALL_POINTS - 1) * sizeof *p->newest);
    p->count--;
  }
  p->newest[p->count++] = value;
  if (sample % KENDALL_EVERY == 0 && p->count == KENDALL_POINTS) {
    bool rises = kendall_z(p->newest, p->count) > KENDALL_Z;
    if (rises && !p->kendall_told) raise_alarm(v, JUDGE_KENDALL, now_min);
    p->kendall_told = rises;
  }
}

/* ---- ours ------------------------------------------------------------------ */

static void ours_step(mg_leak *leak, verdicts *v, double value, double now_min) {
  mg_leak_limits limits = {.memory_bytes = LIMIT_BYTES};
  mg_leak_finding found[4];
  size_t count;

  limits.memory_used_bytes = value / 100.0 * LIMIT_BYTES;
  mg_leak_note(leak, MG_LEAK_HEAP, limits.memory_used_bytes,
               now_min * MS_PER_MIN);
  count = mg_leak_judge(leak, now_min * MS_PER_MIN, &limits, found, 4);
  for (size_t i = 0; i < count; i++)
    for (int tier = MG_LEAK_SUSPECT; tier <= (int)found[i].tier; tier++)
      if ((int)found[i].previous < tier)
        raise_alarm(v, (judge)(JUDGE_SUSPECT + tier - MG_LEAK_SUSPECT), now_min);
}

static void live(verdicts *v, sim_shape shape, uint64_t seed, double rate,
                 double minutes) {
  mg_leak_settings settings = MG_LEAK_SETTINGS_INIT;
  peers others = {.count = 0};
  mg_leak *leak;
  sim_life life;
  long sample = 0;

  memset(v, 0, sizeof *v);
  for (int i = 0; i < JUDGES; i++) v->first_min[i] = -1.0;
  sim_begin(&life, shape, seed, rate);
  v->warm_min = sim_warm_min(&life);
  if (mg_leak_open(&leak, &settings, NULL) != MG_OK) abort();
  for (double t = 0.0; t < minutes; t += SIM_STEP_MIN) {
    double value = sim_step(&life, t);
    if (value >= 100.0) break;
    ours_step(leak, v, value, t);
    peers_step(&others, v, sample++, value, t);
  }
  mg_leak_close(leak);
}

/* ---- harmless days --------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long next_life, lives;                /* guarded by lock */
static long alarm_days[SIM_HARMLESS][JUDGES]; /* guarded by lock */

static void *work(void *unused) {
  for (;;) {
    long number;
    verdicts v;
    int shape;
    pthread_mutex_lock(&lock);
    number = next_life++;
    pthread_mutex_unlock(&lock);
    if (number >= lives * SIM_HARMLESS) return unused;
    shape = (int)(number % SIM_HARMLESS);
    live(&v, (sim_shape)shape, (uint64_t)number * 7919u + 12345u, 0.0, LIFE_MIN);
    pthread_mutex_lock(&lock);
    for (int by = 0; by < JUDGES; by++)
      for (int day = 0; day < LIFE_DAYS; day++)
        alarm_days[shape][by] += v.alarm[by][day];
    pthread_mutex_unlock(&lock);
  }
}

static double percent(long days, long of) {
  return 100.0 * (double)days / (double)of;
}

static void print_harmless(void) {
  long sum[JUDGES] = {0}, days = lives * LIFE_DAYS, all = days * SIM_HARMLESS;

  printf("%% of %ld days with a new alarm\n%-14s %9s %9s %9s %12s %12s\n", all,
         "shape", "suspect", "likely", "confirmed", "Mann-Kendall",
         "five growing");
  for (int shape = 0; shape < SIM_HARMLESS; shape++) {
    const long *seen = alarm_days[shape];
    printf("%-14s %9.1f %9.2f %9.2f %12.1f %12.1f\n", sim_shapes[shape].name,
           percent(seen[0], days), percent(seen[1], days),
           percent(seen[2], days), percent(seen[3], days),
           percent(seen[4], days));
    for (int by = 0; by < JUDGES; by++) sum[by] += seen[by];
    printf("row leaks.sim.false.%s %% %.4f %.4f Mann-Kendall\n",
           sim_shapes[shape].name, percent(seen[JUDGE_LIKELY], days),
           percent(seen[JUDGE_KENDALL], days));
  }
  printf("%-14s %9.1f %9.2f %9.2f %12.1f %12.1f\n", "all",
         percent(sum[0], all), percent(sum[1], all), percent(sum[2], all),
         percent(sum[3], all), percent(sum[4], all));
  printf("row leaks.sim.false.likely %% %.4f %.4f Mann-Kendall\n",
         percent(sum[JUDGE_LIKELY], all), percent(sum[JUDGE_KENDALL], all));
  printf("row leaks.sim.false.collections %% %.4f %.4f five-growing\n",
         percent(sum[JUDGE_LIKELY], all), percent(sum[JUDGE_COLLECTIONS], all));
  printf("row leaks.sim.false.confirmed %% %.4f %.4f Mann-Kendall\n",
         percent(sum[JUDGE_CONFIRMED], all), percent(sum[JUDGE_KENDALL], all));
}

/* ---- leaks ----------------------------------------------------------------- */

/* The value that `share` of all lives stay under; NEVER_MIN: they do not. */
static double quantile(double *sorted, int count, double share) {
  int at = (int)(share * LEAK_LIVES);

  return at < count ? sorted[at] : NEVER_MIN;
}

static void print_leaks(double rate) {
  static double after[JUDGES][LEAK_LIVES];
  int count[JUDGES] = {0};

  for (int i = 0; i < LEAK_LIVES; i++) {
    verdicts v;
    live(&v, SIM_LEAK, (uint64_t)i * 104729u + 77u, rate,
         fmin(LIFE_MIN, 90.0 / rate));
    for (int by = 0; by < JUDGES; by++)
      if (v.first_min[by] >= 0.0)
        after[by][count[by]++] = v.first_min[by] - v.warm_min;
  }
  printf("%9.3f", rate);
  for (int by = 0; by < JUDGES; by++) {
    qsort(after[by], (size_t)count[by], sizeof(double), bench_compare);
    printf("  %6.1f %6.1f", quantile(after[by], count[by], 0.5),
           quantile(after[by], count[by], 0.9));
  }
  printf("\nrow leaks.sim.found.%g %% %.1f %.1f Mann-Kendall\n", rate,
         percent(count[JUDGE_LIKELY], LEAK_LIVES),
         percent(count[JUDGE_KENDALL], LEAK_LIVES));
  printf("row leaks.sim.median.%g min %.2f %.2f Mann-Kendall\n", rate,
         quantile(after[JUDGE_LIKELY], count[JUDGE_LIKELY], 0.5),
         quantile(after[JUDGE_KENDALL], count[JUDGE_KENDALL], 0.5));
  printf("row leaks.sim.p90.%g min %.2f %.2f Mann-Kendall\n", rate,
         quantile(after[JUDGE_LIKELY], count[JUDGE_LIKELY], 0.9),
         quantile(after[JUDGE_KENDALL], count[JUDGE_KENDALL], 0.9));
}

int main(int argc, char **argv) {
  static const double rates[] = {3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003};
  pthread_t worker[WORKERS];

  lives = argc > 1 ? atol(argv[1]) : LIVES_DEFAULT;
  for (int i = 0; i < WORKERS; i++)
    if (pthread_create(&worker[i], NULL, work, NULL) != 0) abort();
  for (int i = 0; i < WORKERS; i++) pthread_join(worker[i], NULL);
  print_harmless();
  printf("minutes after the warm-up, median and 90 %% of %d leaks; %.0f: not in "
         "two days\n%9s  %13s  %13s  %13s  %13s  %13s\n", LEAK_LIVES, NEVER_MIN,
         "%/min", "suspect", "likely", "confirmed", "Mann-Kendall",
         "five growing");
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
    print_leaks(rates[i]);
  return 0;
}
