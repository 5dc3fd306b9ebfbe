/* test_pool_threads.c - one pool under many threads: random lives, threads that die
 * with survivors, returns by others, pressure and ticks meanwhile, fork. */
#include "pool_support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "fixture.h"

#define MB 1048576u
#define THREADS 32
#define PLACES 10000 /* rentals at the same time */

static uint32_t next_random(uint32_t *state) {
  uint32_t x = *state;

  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

/* Mostly small, now and then up to 2 MB. */
static size_t random_bytes(uint32_t *state) {
  uint32_t kind = next_random(state) % 1000;

  if (kind < 900) return next_random(state) % 4096 + 1;
  if (kind < 997) return next_random(state) % 65536 + 1;
  return next_random(state) % (2 * MB) + 1;
}

/* ---- places that all threads share ------------------------------------------- */

typedef struct place {
  _Atomic uint64_t handle; /* 0: empty, 1: being filled */
  unsigned char *data;
} place;

typedef struct crowd {
  mg_pool *pool;
  place *places;
  uint32_t operations; /* of each thread */
  _Atomic uint32_t seed, forgotten, damaged, refused;
  _Atomic bool ends;
} crowd;

/* Every rental carries its own place's number at both ends of what was asked. */
static void fill(crowd *c, place *p, uint32_t *random) {
  uint64_t empty = 0;
  mg_rental rental;

  if (!atomic_compare_exchange_strong(&p->handle, &empty, 1)) return;
  if (mg_pool_rent(&rental, c->pool, random_bytes(random), NULL) != MG_OK) {
    c->refused++;
    p->handle = 0;
    return;
  }
  p->data = rental.data;
  p->data[0] = p->data[63] = (unsigned char)(p - c->places);
  atomic_store(&p->handle, rental.handle);
}

static void empty(crowd *c, place *p, bool forgets) {
  uint64_t handle = atomic_load(&p->handle);
  unsigned char number = (unsigned char)(p - c->places);

  if (handle <= 1) return;
  if (!atomic_compare_exchange_strong(&p->handle, &handle, 1)) return;
  if (p->data[0] != number || p->data[63] != number) c->damaged++;
  if (forgets) {
    if (mg_pool_lost(c->pool, handle, NULL, NULL) != MG_OK) c->refused++;
    c->forgotten++;
  } else if (mg_pool_return(c->pool, handle, NULL) != MG_OK) {
    c->refused++;
  }
  atomic_store(&p->handle, 0);
}

static void *live(void *ctx) {
  crowd *c = ctx;
  uint32_t random = atomic_fetch_add(&c->seed, 0x9e3779b9u) | 1u;

  for (uint32_t i = 0; i < c->operations; i++) {
    place *p = &c->places[next_random(&random) % PLACES];
    if (atomic_load(&p->handle) == 0)
      fill(c, p, &random);
    else
      empty(c, p, next_random(&random) % 50000 == 0);
  }
  return NULL; /* what it rented last is somebody else's to return */
}

static void *press(void *ctx) {
  crowd *c = ctx;
  double now_ms = 0;

  for (int i = 0; !c->ends; i++) {
    mg_pool_tick(c->pool, now_ms += 1000);
    if (i % 8 == 3) mg_pool_relieve(c->pool, 0.5);
    if (i % 32 == 5) mg_pool_relieve_level(c->pool, MG_LEVEL_CRITICAL);
    if (i % 32 == 6) mg_pool_relieve_level(c->pool, MG_LEVEL_NORMAL);
    if (i % 16 == 9) {
      mg_finding found[4];
      mg_pool_suspects(c->pool, now_ms, found, 4);
    }
    pool_stats(c->pool);
    usleep(5000);
  }
  return NULL;
}

static void run_generation(crowd *c) {
  pthread_t thread[THREADS];

  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, live, c), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
}

static void run_crowd(mg_pool *pool, uint32_t operations, int generations) {
  crowd c = {.pool = pool, .operations = operations, .seed = 1};
  mg_finding finding[MG_POOL_FINDINGS];
  uint32_t random = 7;
  uint64_t lost = 0;
  pthread_t presser;
  mg_pool_stats s;
  size_t count;

  c.places = calloc(PLACES, sizeof *c.places);
  assert_non_null(c.places);
  for (size_t i = 0; i < PLACES; i++) fill(&c, &c.places[i], &random);
  assert_int_equal(pool_stats(pool).current, PLACES);
  assert_int_equal(pthread_create(&presser, NULL, press, &c), 0);
  for (int i = 0; i < generations; i++) run_generation(&c);
  c.ends = true;
  pthread_join(presser, NULL);
  for (size_t i = 0; i < PLACES; i++) empty(&c, &c.places[i], false);
  free(c.places);
  assert_int_equal(c.damaged, 0);
  assert_int_equal(c.refused, 0);
  s = pool_stats(pool);
  assert_int_equal(s.rented, s.returned + s.lost);
  assert_int_equal(s.current, 0);
  assert_int_equal(s.current_bytes, 0);
  assert_int_equal(s.lost, c.forgotten);
  assert_int_equal(s.sites_kept, 0);
  assert_int_equal(s.suspected, 0);
  assert_int_equal(s.double_returns + s.foreign_returns, 0);
  assert_int_equal(s.writes_after_return, 0);
  count = mg_pool_take_findings(pool, finding, MG_POOL_FINDINGS);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(finding[i].kind, MG_FINDING_LOST);
    lost += finding[i].count;
  }
  if (s.findings_lost == 0) assert_int_equal(lost, c.forgotten);
  mg_pool_relieve_level(pool, MG_LEVEL_NORMAL);
  mg_pool_relieve(pool, 1.0);
  assert_int_equal(pool_stats(pool).held_bytes, 0);
  assert_int_equal(pool_stats(pool).os_bytes, 0);
}

/* 32 x 2 x 80 000 operations, so above five million. */
static void test_ten_thousand_rentals_of_a_dying_crowd(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "simple", "max_pool_mb", "256");

  (void)state;
  run_crowd(pool, 80000, 2);
  mg_pool_close(pool);
}

static void test_a_paranoid_crowd(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "paranoid", "max_pool_mb", "32");

  (void)state;
  run_crowd(pool, 4000, 3);
  mg_pool_close(pool);
}

static void test_a_crowd_without_pooling(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "simple", "pool_enabled", "false");

  (void)state;
  run_crowd(pool, 4000, 2);
  mg_pool_close(pool);
}

/* ---- one rents, another returns ------------------------------------------------- */

typedef struct pipe_line {
  mg_pool *pool;
  pthread_barrier_t barrier;
  mg_rental rental[1000];
  uint64_t handle[1000];
} pipe_line;

static void *consume(void *ctx) {
  pipe_line *line = ctx;

  for (int round = 0; round < 50; round++) {
    pthread_barrier_wait(&line->barrier);
    for (int i = 0; i < 1000; i++) line->handle[i] = line->rental[i].handle;
    if (mg_pool_return_many(line->pool, line->handle, 1000, NULL, NULL) != MG_OK)
      return "refused";
    pthread_barrier_wait(&line->barrier);
  }
  return NULL;
}

/* The memory goes round: no more than what is out at once, and both caches. */
static void test_returns_by_another_thread_serve_the_first(void **state) {
  pipe_line *line = calloc(1, sizeof *line);
  mg_error err = MG_ERROR_INIT;
  pthread_t thread;
  void *result;

  (void)state;
  assert_non_null(line);
  line->pool = pool_with("pool.leak_check", "simple", NULL, NULL);
  pthread_barrier_init(&line->barrier, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, consume, line), 0);
  for (int round = 0; round < 50; round++) {
    assert_ok(mg_pool_rent_many(line->rental, 1000, line->pool, 4096, &err),
              &err);
    pthread_barrier_wait(&line->barrier);
    pthread_barrier_wait(&line->barrier);
  }
  pthread_join(thread, &result);
  assert_null(result);
  assert_int_equal(pool_stats(line->pool).current, 0);
  assert_int_equal(pool_stats(line->pool).rented, 50000);
  assert_true(pool_stats(line->pool).held_bytes <= (1000 + 2 * 64 + 64) * 4096);
  pthread_barrier_destroy(&line->barrier);
  mg_pool_close(line->pool);
  free(line);
}

static void *rent_return_and_end(void *ctx) {
  mg_rental rental[100];

  if (mg_pool_rent_many(rental, 100, ctx, 2048, NULL) != MG_OK) return "refused";
  for (int i = 0; i < 90; i++)
    if (mg_pool_return(ctx, rental[i].handle, NULL) != MG_OK) return "refused";
  return NULL;
}

static void test_a_thread_leaves_its_blocks_behind(void **state) {
  mg_pool *pool = pool_with("pool.leak_check", "disabled", NULL, NULL);
  pthread_t thread;
  mg_pool_stats s;
  void *result;

  (void)state;
  assert_int_equal(pthread_create(&thread, NULL, rent_return_and_end, pool), 0);
  pthread_join(thread, &result);
  assert_null(result);
  s = pool_stats(pool);
  assert_int_equal(s.rented, 100);
  assert_int_equal(s.returned, 90);
  mg_pool_relieve(pool, 1.0);
  assert_int_equal(pool_stats(pool).held_bytes, 10 * 2048);
  mg_pool_close(pool);
}

/* ---- fork ---------------------------------------------------------------------------- */

typedef struct fork_case {
  mg_pool *pool;
  mg_rental kept[50];
} fork_case;

static void use_in_child(void *ctx) {
  fork_case *f = ctx;
  mg_rental rental[200];
  mg_pool_stats s;

  mg_pool_read_stats(f->pool, &s);
  CHECK(s.current >= 50);
  CHECK(s.rented == s.returned + s.current);
  for (int i = 0; i < 50; i++) {
    CHECK(((unsigned char *)f->kept[i].data)[0] == i);
    CHECK(mg_pool_return(f->pool, f->kept[i].handle, NULL) == MG_OK);
    CHECK(mg_pool_return(f->pool, f->kept[i].handle, NULL) == MG_ERETURNED);
  }
  for (int round = 0; round < 20; round++) {
    CHECK(mg_pool_rent_many(rental, 200, f->pool, 1000, NULL) == MG_OK);
    for (int i = 0; i < 200; i++) memset(rental[i].data, round, 1000);
    for (int i = 0; i < 200; i++)
      CHECK(mg_pool_return(f->pool, rental[i].handle, NULL) == MG_OK);
  }
  mg_pool_relieve(f->pool, 1.0);
  mg_pool_read_stats(f->pool, &s);
  /* Left is what other threads had rented at the moment of the fork. */
  CHECK(s.held_bytes >= s.current_bytes);
  CHECK(s.held_bytes <= s.current_bytes + 65536);
}

static void *churn(void *ctx) {
  crowd *c = ctx;
  uint32_t random = atomic_fetch_add(&c->seed, 0x9e3779b9u) | 1u;
  mg_rental rental[32];

  while (!c->ends) {
    for (int i = 0; i < 32; i++)
      mg_pool_rent(&rental[i], c->pool, next_random(&random) % 8000 + 1, NULL);
    for (int i = 0; i < 32; i++)
      mg_pool_return(c->pool, rental[i].handle, NULL);
  }
  return NULL;
}

static void test_fork_in_the_middle_of_it(void **state) {
  fork_case f = {.pool = pool_with("pool.leak_check", "simple", NULL, NULL)};
  crowd c = {.pool = f.pool, .seed = 1};
  pthread_t thread[3];

  (void)state;
  for (int i = 0; i < 50; i++) {
    f.kept[i] = pool_rented(f.pool, 500);
    memset(f.kept[i].data, i, 500);
  }
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&thread[i], NULL, churn, &c), 0);
  for (int i = 0; i < 30; i++) {
    usleep(2000);
    assert_int_equal(fixture_child(use_in_child, &f), 0);
  }
  c.ends = true;
  for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
  for (int i = 0; i < 50; i++) pool_returned(f.pool, f.kept[i].handle);
  assert_int_equal(pool_stats(f.pool).current, 0);
  mg_pool_close(f.pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ten_thousand_rentals_of_a_dying_crowd),
      cmocka_unit_test(test_a_paranoid_crowd),
      cmocka_unit_test(test_a_crowd_without_pooling),
      cmocka_unit_test(test_returns_by_another_thread_serve_the_first),
      cmocka_unit_test(test_a_thread_leaves_its_blocks_behind),
      cmocka_unit_test(test_fork_in_the_middle_of_it)};
  return cmocka_run_group_tests_name("pool_threads", tests, NULL, NULL);
}
